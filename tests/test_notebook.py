"""The notebook runs from top to bottom, and its outputs are not kept in the repository."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "examples" / "quickstart.ipynb"


def shortened(notebook):
    """The same cells with fewer seeds and steps."""
    for cell in notebook.cells:
        for long, short in (("131_072", "16_384"), ("65_536", "8_192"), ("seeds=16", "seeds=4")):
            cell.source = cell.source.replace(long, short)
    return notebook


@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = shortened(nbformat.read(NOTEBOOK, as_version=4))
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    shown = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output["output_type"] in ("display_data", "execute_result")
    ]
    kinds = [kind for output in shown for kind in output["data"]]
    assert kinds.count("image/png") >= 2  # the curve and the heat map
    assert "image/gif" in kinds
    assert os.listdir(tmp_path)
