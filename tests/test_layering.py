"""Imports point down only, and libraries stay where they belong."""

import ast
import pathlib

import pytest

import ppg_jax

ROOT = pathlib.Path(ppg_jax.__file__).parent

# From the ground up; a module may import its own layer and those below.
LAYERS = [
    {"gae", "losses", "distributions", "running_stats", "prng", "conflict", "missing", "bits"},
    {"types", "other_names", "fields", "fitting", "config", "identity"},
    {"envs", "networks"},
    {"minibatch", "optimizer", "gradients", "rollout", "policy_phase", "aux_phase"},
    {"train"},
    {"parallel", "kept", "evaluation"},
    {
        "backend",
        "files",
        "folder",
        "groups",
        "report",
        "logging",
        "progress",
        "interrupts",
        "checkpoint",
        "packing",
        "parameters",
        "storage",
        "plain_files",
        "older_runs",
        "acting",
        "streams",
        "views",
    }
    | {"summary", "segments", "evaluator", "recorder", "continuing", "runner", "sweep_report"}
    | {"sweeping", "loading", "cli_args", "commands", "cli"},
    {"__main__", "__init__"},
]
HOST = 6
MODULES = sorted(p for p in ROOT.rglob("*.py"))


def place(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def layer_of(name):
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def imports(path):
    """Names of all modules imported anywhere in a file, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    mine = layer_of(place(path))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "ppg_jax" or len(parts) < 2:
            continue
        is_module = (ROOT / parts[1]).is_dir() or (ROOT / f"{parts[1]}.py").is_file()
        assert is_module, (
            f"{path.name} imports {name}, which is the package's surface, not a module"
        )
        assert layer_of(parts[1]) <= mine, f"{path.name} imports {name}"
        if {place(path), parts[1]} == {"envs", "networks"}:
            pytest.fail(f"{path.name} imports {name}: environments and networks are strangers")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_libraries_stay_where_they_belong(path):
    used = {name.split(".")[0] for name in imports(path)}
    submodules = set(imports(path))
    if place(path) != "envs":
        assert not used & {"gymnax", "gymnasium"}
    if place(path) != "networks":
        assert not {n for n in submodules if n.startswith(("flax.linen", "flax.nnx"))}
    if layer_of(place(path)) < HOST:
        assert not used & {"time", "os", "pathlib", "rich", "matplotlib", "orbax", "yaml", "tyro"}
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"print", "open", "input"}


def test_every_module_has_its_layer():
    known = set().union(*LAYERS)
    assert {place(p) for p in MODULES} == known
