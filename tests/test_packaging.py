"""What is handed out holds what README, Makefile and tests refer to."""

import re
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INCLUDED = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]


def named_files():
    """Paths that README and the benchmarks' own name, and that exist here."""
    for file in (ROOT / "README.md", ROOT / "benchmarks" / "README.md"):
        for path in re.findall(r"[\w.-]+(?:/[\w.-]+)+", file.read_text()):
            if (ROOT / path).is_file():
                yield path


def test_the_source_distribution_holds_what_is_referred_to():
    named = set(named_files())
    assert {"docs/sweep.png", "examples/quickstart.ipynb", "benchmarks/README.md"} <= named
    for path in named | {"Makefile", ".ci/run", "pyproject.toml", "tests/conftest.py"}:
        assert path == "pyproject.toml" or path.split("/")[0] in INCLUDED, path
    for name in INCLUDED:
        assert (ROOT / name).exists(), name


def test_it_can_be_built(tmp_path, monkeypatch):
    builders = pytest.importorskip("hatchling.build")
    monkeypatch.chdir(ROOT)
    name = builders.build_sdist(str(tmp_path))
    with tarfile.open(tmp_path / name) as archive:
        held = {member.split("/", 1)[1] for member in archive.getnames() if "/" in member}
    assert {"Makefile", "docs/sweep.png", "examples/sweep.yaml", ".ci/run"} <= held
    assert "configs/cartpole.yaml" in held
