"""Every code block of the site and of the README runs.

The blocks of a page run in order in one folder. Python blocks share a namespace. A block with a
title is also written to a file of that name. YAML blocks are read as configurations or sweeps.
Commands go through the real command line on small settings; there is no mark to leave one out, and
only ``text`` blocks, which hold output, are not run.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import io
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path

import gymnax
import jax
import pytest
import yaml

import ppg_jax
from ppg_jax.cli.main import COMMANDS
from ppg_jax.cli.main import main as ppg_jax_command

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Appended to a command, where an option counts that is given last. CartPole's configurations are
# small enough, and the same as in the Python blocks, so that their programs are compiled once.
SIZES = {"num-envs": 8, "num-steps": 32, "n-pi": 2, "num-minibatches": 2, "num-aux-minibatches": 4}
SMALL_RUN = [f"--{name}={value}" for name, value in (SIZES | {"total-timesteps": 1024}).items()]
PLAIN = ("cartpole", "ppo/cartpole")
PLAIN_RUN, LONGER_RUN = ["--total-timesteps=8192"], ["--total-timesteps=16384"]
SMALL = {
    "eval": ["--episodes", "4", "--max-steps", "20"],
    "render": ["--max-steps", "3"],
    "plot": [],
    "list": [],
}


class Block(typing.NamedTuple):
    """A code block: its language, the file that its title names, its text, where it stands."""

    language: str
    title: str | None
    text: str
    place: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', found[2])
        line = text[: found.start()].count("\n") + 1
        place = f"{page.relative_to(ROOT)}:{line}"
        yield Block(found[1], title and title[1], found[3], place)
    assert text.count("\n```") == 2 * len(FENCE.findall(text)), f"{page}: a block is indented"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the blocks of a page run, and what they leave behind in the process undone."""
    modules, registered = set(sys.modules), len(gymnax.registered_envs)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("COLUMNS", "100")
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    for name in gymnax.registered_envs[registered:]:
        del gymnax.registration._registry[name]
    del gymnax.registered_envs[registered:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_runs(page, folder):
    namespace = {"__name__": "page"}
    for block in blocks(page):
        if block.title:
            Path(block.title).write_text(block.text)
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), namespace)
        elif block.language == "yaml":
            check_yaml(block)
        elif block.language == "bash" and block.title:
            check_shell(block.text, block.place)
        elif block.language in ("bash", "console"):
            for line in commands(block.text):
                run_command(line, block.place)
        else:
            assert block.language == "text", f"{block.place}: name the block's language"


def check_yaml(block: Block) -> None:
    if "apiVersion" in yaml.safe_load(block.text):
        check_manifest(yaml.safe_load(block.text), block.place)
        return
    for key, command in (("values", "sweep"), ("space", "tune")):
        if key in yaml.safe_load(block.text):
            path = Path(block.title or f"{command}.yaml")
            path.write_text(block.text)
            with pytest.raises(SystemExit, match="^0$"):
                ppg_jax_command([command, str(path), "--help"])
            return
    path = Path("checked.yaml")
    path.write_text(block.text)
    config = ppg_jax.load_config(path)
    jax.eval_shape(functools.partial(ppg_jax.init, config), jax.random.key(0))


def check_shell(text: str, place: str) -> None:
    """A script for elsewhere: its syntax, and the options of its commands."""
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, f"{place}: {done.stderr}"
    found = re.findall(r"ppg-jax train (.*?)(?: &)?$", text.replace("\\\n", " "), re.MULTILINE)
    assert found, place
    branches = re.findall(r'WHAT="([^"]*)"', text) or [""]
    for arguments, what in itertools.product(found, branches):
        words = shlex.split(arguments.replace("$WHAT", what.replace("--resume $RUN", "")))
        words = [{"$i": "1", "$JOB_COMPLETION_INDEX": "1"}.get(word, word) for word in words]
        with pytest.raises(SystemExit, match="^0$"):
            ppg_jax_command(["train", *words, "--help"])


def check_manifest(manifest: dict[str, typing.Any], place: str) -> None:
    """A JobSet whose pods meet: indexed, as many as the command says, the first one by its name."""
    assert (manifest["kind"], manifest["apiVersion"]) == ("JobSet", "jobset.x-k8s.io/v1alpha2")
    [job] = manifest["spec"]["replicatedJobs"]
    spec, name = job["template"]["spec"], manifest["metadata"]["name"]
    [container] = spec["template"]["spec"]["containers"]
    [script] = container["args"]
    assert spec["completionMode"] == "Indexed", place
    assert spec["completions"] == spec["parallelism"]
    assert f"--num-processes {spec['parallelism']} " in script
    assert f"--coordinator {name}-{job['name']}-0-0.{name}:" in script
    check_shell(script, place)


def commands(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        line = line.partition(" #")[0].strip().removeprefix("$ ")
        if line and not line.startswith("#"):
            yield line


def run_command(line: str, place: str) -> None:
    words = shlex.split(line)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # variables of the environment
        words.pop(0)
    program, *arguments = words
    check = {
        "ppg-jax": run_ppg_jax,
        "make": check_make,
        "pip": check_pip,
        "python": check_script,
    }
    assert program in check, f"{place}: {program} is no command that this test knows"
    check[program](arguments, place)


def run_ppg_jax(arguments: list[str], place: str) -> None:
    command = arguments[0]
    if command == "--version":
        code = ppg_jax_command(arguments)
    else:
        assert command in COMMANDS, place
        try:
            code = ppg_jax_command([*arguments, *small(arguments)])
        except SystemExit as stop:  # --help
            code = stop.code
    assert code in (0, None), f"{place}: ppg-jax {shlex.join(arguments)} failed"


def small(arguments: list[str]) -> list[str]:
    """Options that make a command quick."""
    command = arguments[0]
    if command == "bench":
        sizes = [option for option in SMALL_RUN if not option.startswith("--total-timesteps")]
        return [*sizes, "--seeds=1", "--repeats=1"]
    if command == "tune" and "--resume" not in arguments:
        return [*SMALL_RUN, "--population=2", "--rungs=1", "--budget=10000", "--report-seeds=1"]
    if command not in ("train", "sweep", "tune"):
        return SMALL[command]
    if "--resume" in arguments:
        return LONGER_RUN if "--total-timesteps" in arguments else []
    if command == "train" and Path(arguments[1]).is_file():
        assert ppg_jax.load_config(arguments[1]).total_timesteps <= 10_000, "write small numbers"
        return []
    seeds = [int(x) for name, x in itertools.pairwise(arguments) if name == "--seeds"]
    plain = command == "train" and arguments[1] in PLAIN
    fewer = ["--seeds=8"] if max(seeds, default=1) > 8 else []
    return fewer + (PLAIN_RUN if plain else SMALL_RUN)


def check_make(arguments: list[str], place: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    goals = [word for word in arguments if "=" not in word]
    assert goals, place
    assert set(goals) <= set(targets), place
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    if "ARGS" in given:
        config, options = given.get("CONFIG", "cartpole"), shlex.split(given["ARGS"])
        run_ppg_jax(["train", config, *options, "--help"], place)


def check_pip(arguments: list[str], place: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert arguments[0] == "install", place
    for word in arguments[1:]:
        found = re.fullmatch(r"(?:\.|ppg-jax)(?:\[([\w,]+)\])?|-e|--editable|-U|--upgrade", word)
        assert found, f"{place}: {word}"
        extras = set((found[1] or "").split(",")) - {""}
        assert extras <= set(project["optional-dependencies"]), place


def check_script(arguments: list[str], place: str) -> None:
    """Scripts of ours are there, and name their options."""
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]), place
        return
    source = (ROOT / arguments[0]).read_text()
    shared = (ROOT / "benchmarks" / "common.py").read_text()
    for option in re.findall(r"--[a-z-]+", " ".join(arguments)):
        assert option in source + shared, f"{place}: {option}"


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


@functools.cache
def options_of(command: str) -> frozenset[str]:
    """The options that the help of a command shows."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        ppg_jax_command([command, "--help"])
    return frozenset(re.findall(r"--[a-z][a-z.-]*", shown.getvalue()))


def known_options() -> frozenset[str]:
    """Every option of every command, and of the benchmarks."""
    scripts = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    of_scripts = frozenset(re.findall(r"--[a-z][a-z-]*", scripts))
    return of_scripts.union({"--version"}, *map(options_of, COMMANDS))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_and_files_in_the_text_exist(page):
    text = prose(page)
    for code in re.findall(r"`([^`\n]+)`", text):
        for option in re.findall(r"(?<!\S)--[a-z][a-z.-]*", code):
            free = option.startswith(("--env-params.", "--env-kwargs."))
            assert free or option in known_options(), option
    for path in re.findall(r"`((?:benchmarks|tests|docs|examples|configs)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path


def test_the_page_of_metrics_names_them_all():
    named = re.findall(r"^\| `(\w+)` \|", (DOCS / "reference" / "metrics.md").read_text(), re.M)
    config = ppg_jax.Config(
        arch="shared", gradient_conflict="measure", adapt_beta_clone=True, total_timesteps=300_000
    )
    metrics = set()
    for storage in ("packed", "replay"):
        train = ppg_jax.make_train(config.replace(aux_storage=storage))
        metrics |= set(jax.eval_shape(train, jax.random.key(0))[1])
    assert sorted(named) == sorted(metrics)


def test_the_guide_of_training_names_all_options_that_are_no_fields():
    text = (DOCS / "guides" / "train.md").read_text()
    table = set(re.findall(r"^\| `(--[a-z-]+)", text, re.M))
    fields = {f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(ppg_jax.Config)}
    shown = {option for option in options_of("train") if "." not in option}
    assert table == shown - fields - {"--help"}
