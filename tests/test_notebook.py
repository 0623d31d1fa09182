"""The notebook runs from top to bottom, and its outputs are not kept in the repository."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "examples" / "quickstart.ipynb"


ROOT = NOTEBOOK.parent.parent
# One phase; the sweep has fewer seeds than the run, of which the fourth is looked at.
SHORTER = {"131_072": "8_192", "65_536": "8_192", "16_384": "8_192", "seeds=16": "seeds=4",
           "    seeds=4,": "    seeds=2,"}  # fmt: skip


def shortened(notebook):
    """The same cells with fewer seeds and steps, compiled as the tests are."""
    for cell in notebook.cells:
        for long, short in SHORTER.items():
            cell.source = cell.source.replace(long, short)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import tests.conftest"))
    return notebook


@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
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
