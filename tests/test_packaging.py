"""The source archive holds what README and tests refer to."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = PROJECT["tool"]["hatch"]["build"]["targets"]
INCLUDED = ["pyproject.toml", *(name.strip("/") for name in TARGETS["sdist"]["include"])]


def is_included(path):
    return any(path == name or path.startswith(f"{name}/") for name in INCLUDED)


def referred_to():
    """Files of ours that README links to or names, and folders that tests read."""
    readme = (ROOT / "README.md").read_text()
    found = set(re.findall(r"\]\(([^)#:]+)\)", readme))
    found |= set(re.findall(r"(?<![\w/.])((?:[a-z_]+/)+[\w.]*\w)", readme))
    for test in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r'(?:parent|parents\[\d\]) / "([^"]+)"', test.read_text()))
        found |= set(re.findall(r'ROOT / "([^"]+)"', test.read_text()))
    return sorted(name.rstrip("/") for name in found if (ROOT / name).exists())


def test_something_is_referred_to():
    names = referred_to()
    assert {"examples/quickstart.ipynb", "docs/sweep.png", "benchmarks"} <= set(names)


@pytest.mark.parametrize("name", referred_to())
def test_what_is_referred_to_is_in_the_archive(name):
    assert is_included(name)


def test_what_is_included_is_there():
    assert all((ROOT / name).exists() for name in INCLUDED)


def test_everything_that_is_kept_in_git_is_included():
    try:
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a checkout")
    assert [name for name in listed if not is_included(name)] == []


def test_the_wheel_has_the_configurations():
    assert TARGETS["wheel"]["force-include"] == {"configs": "ppg_jax/configs"}
