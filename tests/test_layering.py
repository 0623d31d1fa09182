"""Imports point down only, from folder to folder, and libraries stay where they belong."""

import ast
import pathlib

import pytest

import ppg_jax

ROOT = pathlib.Path(ppg_jax.__file__).parent

# From the ground up. A folder imports those before it; environments and networks are strangers.
LAYERS = [
    "backend", "functional", "config", "types", "kernels", "networks", "envs", "algorithm",
    "execution", "report", "runs", "sweeps", "cli",
]  # fmt: skip
SURFACE = {"__init__", "__main__", "logging"}
"""What stands above all layers: the names that users import, and the command."""
ONLY_IN = {
    "gymnax": "envs",
    "gymnasium": "envs",
    "brax": "envs",
    "craftax": "envs",
    "envpool": "envs",
    "jumanji": "envs",
    "mujoco": "envs",
    "mujoco_playground": "envs",
    "navix": "envs",
    "pgx": "envs",
    "xminigrid": "envs",
    "flax.linen": "networks",
    "flax.nnx": "networks",
    "optax": "algorithm",
    "orbax": "runs",
    "rich": "runs sweeps cli",
    "tyro": "cli",
    "matplotlib": "report runs sweeps cli envs",
    "pandas": "report runs sweeps",
    "scipy": "report",
    "yaml": "config runs sweeps cli",
}
"""The only folders that may import a library."""
PURE = LAYERS[: LAYERS.index("execution")]
"""Layers without clock, process, screen or file."""
READERS = {"config/plain_files.py", "config/yaml_files.py"}
"""Where configurations are read from files."""
MODULES = sorted(ROOT.rglob("*.py"))


def named(paths):
    return {"ids": lambda p: str(p.relative_to(ROOT))} if paths else {}


def layer(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Names of all modules imported anywhere in a file, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def own_imports(path):
    return [name.split(".")[1:] for name in imports(path) if name.split(".")[0] == "ppg_jax"]


@pytest.mark.parametrize("path", MODULES, **named(MODULES))
def test_imports_point_down(path):
    mine = layer(path)
    if mine in SURFACE:
        return
    for parts in own_imports(path):
        assert parts, f"{path} imports the package's surface"
        assert LAYERS.index(parts[0]) <= LAYERS.index(mine), f"{path} imports {parts}"
        assert {mine, parts[0]} != {"envs", "networks"}, "environments and networks are strangers"


@pytest.mark.parametrize("path", MODULES, **named(MODULES))
def test_other_folders_are_imported_as_folders(path):
    for parts in own_imports(path):
        if layer(path) in SURFACE or parts[0] == layer(path):
            continue
        assert len(parts) == 1, f"{path} imports {'.'.join(parts)}; import from ppg_jax.{parts[0]}"


@pytest.mark.parametrize("path", MODULES, **named(MODULES))
def test_libraries_stay_where_they_belong(path):
    if layer(path) in SURFACE:
        return
    for name in imports(path):
        for library, folders in ONLY_IN.items():
            if name == library or name.startswith(library + "."):
                assert layer(path) in folders.split(), f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, **named(MODULES))
def test_what_is_pure_touches_nothing(path):
    if layer(path) not in PURE or str(path.relative_to(ROOT)) in READERS:
        return
    used = {name.split(".")[0] for name in imports(path)}
    assert not used & {"time", "os", "pathlib", "io", "threading", "subprocess"}
    tree = ast.parse(path.read_text())
    calls = {
        n.func.id
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not calls & {"print", "open", "input"}


def test_every_folder_has_its_layer_and_says_what_it_is_for():
    assert {layer(p) for p in MODULES} == {*LAYERS, *SURFACE}
    for folder in ROOT.rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(folder.read_text()))
        assert said, f"{folder} says nothing"


def test_tests_mirror_the_folders():
    tests = pathlib.Path(__file__).parent
    for name in LAYERS:
        if name not in ("types", "backend"):
            assert list((tests / name).glob("test_*.py")), f"tests/{name} is missing"


@pytest.mark.parametrize("path", MODULES, **named(MODULES))
def test_programs_call_back_from_one_file_only(path):
    calls = any(name in path.read_text() for name in ("io_callback", "pure_callback", "jax.debug."))
    assert calls == (str(path.relative_to(ROOT)) == "envs/outside.py")
