"""Every kind of file of a run's folder, damaged in every way that disks and people know."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from attacks.victim import FIELDS, Answer, Case, Victim, contents, copy

WAYS: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda data: None,
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "one byte less": lambda data: data[:-1],
    "appended": lambda data: data + b"x\n",
    "garbage": lambda data: bytes((7 * i + 131) % 256 for i in range(len(data))),
    "zeros": lambda data: bytes(len(data)),
    "one bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4])
    + data[len(data) // 2 + 1 :] if data else b"",
    "another file": lambda data: b"name: something else\n",
}  # fmt: skip
"""What becomes of a file's bytes; None: the file is gone."""


def kinds(whole: Path) -> list[str]:
    """A file of each kind: of the checkpoints only the newest one, and the final parameters."""
    newest = max((whole / "checkpoints" / "phases").iterdir(), key=lambda p: int(p.name[6:]))
    found: dict[str, str] = {}
    for path in sorted(whole.rglob("*")):
        if not path.is_file():
            continue
        name = str(path.relative_to(whole))
        if "phases" in path.parts and newest not in path.parents:
            continue
        kind = re.sub(r"[0-9a-f]{32}", "*", name)  # data files are called after their contents
        size = path.stat().st_size
        if kind not in found or size > (whole / found[kind]).stat().st_size:
            found[kind] = name
    return list(found.values())


def cases(whole: Path, place: Path) -> Iterator[Case]:
    """Each kind of file with each kind of damage."""
    for name in kinds(whole):
        for way in WAYS:
            yield Case(f"{name} {way}", lambda v, n=name, w=way: _try(v, whole, place, n, w))


def _try(victim: Victim, whole: Path, place: Path, name: str, way: str) -> str | None:
    def spoilt() -> Path:
        folder = copy(whole, place)
        data = WAYS[way]((folder / name).read_bytes())
        (folder / name).unlink()
        if data is not None:
            (folder / name).write_bytes(data)
        return folder

    folder = spoilt()
    before = contents(folder)
    played = victim("eval", folder, "--episodes", 4, "--greedy")
    plotted = victim("plot", folder, "--out", place / "figures")
    if contents(folder) != before:
        return "eval or plot changed the folder"
    resumed = victim("train", "--resume", folder, "--quiet")
    wrong = played.wrong or plotted.wrong or resumed.wrong
    if wrong:
        return wrong
    if resumed.code == 2 and contents(folder) != before:
        return "a refusal changed the folder"
    return _another_state(victim, whole, folder, played, resumed)


def _another_state(
    victim: Victim, whole: Path, folder: Path, played: Answer, resumed: Answer
) -> str | None:
    """Whether what came out is not what the whole folder gives."""
    want = victim("eval", whole, "--episodes", 4, "--greedy")
    if played.code == 0 and played.out != want.out:
        return "eval played something else"
    if resumed.code != 0 or _grown(folder):
        return None
    for file in ("metrics.csv", "config.yaml"):
        same_fields = file == "config.yaml" and _fields(folder) == _fields(whole)
        if not same_fields and (folder / file).read_bytes() != (whole / file).read_bytes():
            return f"{file} came out different"
    again = victim("eval", folder, "--episodes", 4, "--greedy")
    if (again.code, again.out) != (want.code, want.out):
        return f"after resuming eval plays something else: {again.err}"
    return None


def _fields(folder: Path) -> object:
    return yaml.safe_load((folder / "config.yaml").read_text())


def _grown(folder: Path) -> bool:
    """Whether damage made it a longer run, which is allowed."""
    found = yaml.safe_load((folder / "config.yaml").read_text())
    return found["total_timesteps"] > FIELDS["total_timesteps"]
