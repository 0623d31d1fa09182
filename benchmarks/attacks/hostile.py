"""Folders that somebody else made: links, pipes, devices, bombs and nonsense instead of files."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attacks.victim import Case, Victim, contents, copy

PRECIOUS = b"a file outside that nobody may change\n"
NAMES = (
    ".lock", "config.yaml", "metrics.csv", "metrics.jsonl", "evaluation.csv", "summary.json",
    "learning_curve.png", "checkpoints", "checkpoints/final", "checkpoints/final/digest.json",
    "checkpoints/final/_METADATA", "checkpoints/final/manifest.ocdbt", "checkpoints/phases",
    "NEWEST", "NEWEST/about/metadata", "NEWEST/state", "NEWEST/state/manifest.ocdbt",
    "NEWEST/_CHECKPOINT_METADATA", ".config.yaml.tmp", ".summary.json.tmp", "episode.gif",
)  # fmt: skip
"""What is replaced; NEWEST is the newest checkpoint."""

NONSENSE: dict[str, Any] = {
    "a list": [], "a number": 3, "nothing": None, "an empty mapping": {},
    "deep": "DEEP", "format text": {"format": "1"}, "format none": {"format": None},
    "format list": {"format": [1]}, "format bool": {"format": True},
    "version number": {"ppg_jax": 1},
    "arrays text": {"arrays": "none"}, "arrays none": {"arrays": None},
    "arrays of numbers": {"arrays": [1, 2]}, "arrays short": {"arrays": [["a"]]},
    "arrays negative": {"arrays": [["a", "float32", [-1]]]},
    "arrays huge": {"arrays": [["a", "float32", [10**13]]]},
    "arrays dtype": {"arrays": [["a", "no such dtype", [1]]]},
    "seconds NaN": {"run_seconds": float("nan")}, "seconds text": {"run_seconds": "3"},
    "seconds negative": {"run_seconds": -1.0}, "seconds infinite": {"compile_seconds": 1e999},
    "seconds missing": {"run_seconds": ...}, "digest number": {"digest": 3},
    "digest missing": {"digest": ...}, "config text": {"config": "x"}, "more": {"more": 1},
    "return text": {"episode_return": "x"},
}  # fmt: skip
"""What stands beside a checkpoint instead; of a mapping only these fields, ``...``: is left out."""


def newest(folder: Path) -> Path:
    """The newest checkpoint."""
    return max((folder / "checkpoints" / "phases").iterdir(), key=lambda p: int(p.name[6:]))


def cases(whole: Path, place: Path) -> Iterator[Case]:
    """All of them."""
    for name in NAMES:
        for kind, put in REPLACEMENTS.items():
            yield Case(f"{name} is {kind}", _with(whole, place, _replace(name, put)))
    for name, value in NONSENSE.items():
        for honest in (False, True):
            told = "with" if honest else "without"
            spoil = _describe(value, honest=honest)
            yield Case(f"metadata: {name}, {told} its digest", _with(whole, place, spoil))
    for name, bomb in BOMBS.items():
        yield Case(name, _with(whole, place, bomb))
    text = "&a [" + ",".join(["1"] * 9) + "]"
    for level in range(9):
        text = (
            f"[&{'bcdefghij'[level]} [{text}, " + ", ".join(["*" + "abcdefghi"[level]] * 9) + "]]"
        )
    yield Case("an alias bomb on the command line", lambda victim: victim(
        "train", "cartpole", "--env-params.gravity", text, seconds=20).wrong)  # fmt: skip


def _with(whole: Path, place: Path, spoil: Callable[[Path, Path], None]) -> Any:
    """A case: spoils a copy, and tries all commands on it."""

    def run(victim: Victim) -> str | None:
        outside = place / "outside"
        if outside.exists():
            shutil.rmtree(outside)
        outside.mkdir()
        (outside / "precious").write_bytes(PRECIOUS)
        (outside / "inside").mkdir()
        (outside / "inside" / "precious").write_bytes(PRECIOUS)
        for args in (
            ("eval", "FOLDER", "--episodes", 2),
            ("plot", "FOLDER", "--out", place / "figures"),
            ("render", "FOLDER", "--max-steps", 2),
            ("train", "--resume", "FOLDER", "--quiet"),
        ):
            folder = copy(whole, place)
            spoil(folder, outside)
            before = contents(folder)
            answer = victim(*(folder if arg == "FOLDER" else arg for arg in args), seconds=30)
            if answer.wrong:
                return f"{args[0]}: {answer.wrong}"
            if contents(outside) != {"precious": PRECIOUS, "inside/precious": PRECIOUS}:
                return f"{args[0]} changed what is outside"
            if answer.code == 2 and contents(folder) != before:
                return f"{args[0]} refused, and changed the folder"
        return None

    return run


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


REPLACEMENTS: dict[str, Callable[[Path, Path], object]] = {
    "a link to a file outside": lambda path, outside: path.symlink_to(outside / "precious"),
    "a link to a folder outside": lambda path, outside: path.symlink_to(outside / "inside"),
    "a link to nothing": lambda path, outside: path.symlink_to(outside / "nothing" / "there"),
    "a link to itself": lambda path, outside: path.symlink_to(path),
    "a pipe": lambda path, outside: os.mkfifo(path),
    "a folder": lambda path, outside: path.mkdir(),
    "an endless device": lambda path, outside: path.symlink_to("/dev/zero"),
}


def _replace(name: str, put: Callable[[Path, Path], object]) -> Callable[[Path, Path], None]:
    def spoil(folder: Path, outside: Path) -> None:
        head, _, tail = name.partition("/")
        path = newest(folder) / tail if head == "NEWEST" else folder / name
        _clear(path)
        put(path, outside)

    return spoil


def _describe(value: Any, *, honest: bool) -> Callable[[Path, Path], None]:
    """Other metadata beside the newest checkpoint, with a digest that fits it or not."""

    def spoil(folder: Path, _: Path) -> None:
        file = newest(folder) / "about" / "metadata"
        about = json.loads(file.read_text())
        changed = value
        if isinstance(value, dict) and value:
            changed = {k: v for k, v in (about | value).items() if v is not ...}
        if honest and isinstance(changed, dict) and "digest" not in (value or ()):
            changed = changed | {"digest": _digest(newest(folder), changed)}
        file.write_text("[" * 200_000 if changed == "DEEP" else json.dumps(changed))

    return spoil


def _digest(checkpoint: Path, about: dict[str, Any]) -> str:
    """What the package would write for this description."""
    packed = np.asarray(_open(checkpoint)["state"].read().result())
    rest = {name: value for name, value in about.items() if name != "digest"}
    described = json.dumps(rest, sort_keys=True).encode()
    return hashlib.sha256(packed.tobytes() + described).hexdigest()


def _open(checkpoint: Path) -> dict[str, Any]:
    """The store of a checkpoint's state, and the array in it."""
    import tensorstore

    base = {"driver": "ocdbt", "base": (checkpoint / "state").as_uri() + "/"}
    array = {"driver": "zarr", "kvstore": base | {"path": "packed/"}}
    return {
        "store": tensorstore.KvStore.open(base).result(),
        "state": tensorstore.open(array, open=True).result(),
    }


def _claim(**changes: Any) -> Callable[[Path, Path], None]:
    """Arrays that claim to be something else."""

    def spoil(folder: Path, _: Path) -> None:
        store = _open(newest(folder))["store"]
        about = json.loads(store["packed/.zarray"]) | changes
        store["packed/.zarray"] = json.dumps(about).encode()

    return spoil


def _many_zeros(folder: Path, _: Path) -> None:
    """A few kilobytes that unpack to gigabytes."""
    import tensorstore

    size = 1_500_000_000
    metadata = {"shape": [size], "chunks": [size], "dtype": "|u1", "fill_value": None}
    metadata["compressor"] = {"id": "zstd", "level": 1}
    spec = {"driver": "zarr", "kvstore": "memory://zeros/", "metadata": metadata}
    made = tensorstore.open(spec, create=True, delete_existing=True).result()
    made.write(np.ones(size, np.uint8)).result()
    store = _open(newest(folder))["store"]
    store["packed/0"] = made.kvstore["0"]
    store["packed/.zarray"] = json.dumps(json.loads(store["packed/.zarray"]) | metadata).encode()


def _text(name: str, content: str) -> Callable[[Path, Path], None]:
    return lambda folder, _: (folder / name).write_text(content) and None  # type: ignore[func-returns-value]


def _large(name: str) -> Callable[[Path, Path], None]:
    """A file that claims to be a terabyte, all of it a hole."""

    def spoil(folder: Path, _: Path) -> None:
        os.truncate(folder / name, 1 << 40)

    return spoil


BOMBS: dict[str, Callable[[Path, Path], None]] = {
    "a checkpoint claims 1e13 numbers": _claim(shape=[10**13]),
    "a checkpoint claims 1e13 numbers in one piece": _claim(shape=[10**13], chunks=[10**13]),
    "a checkpoint claims pieces of 1e13": _claim(chunks=[10**13]),
    "a checkpoint claims other numbers": _claim(dtype="<f8"),
    "a checkpoint of zeros": _many_zeros,
    "summary.json of brackets": _text("summary.json", "[" * 200_000),
    "evaluation.csv of other letters": lambda folder, _: (
        folder / "evaluation.csv").write_bytes(b"\xff\xfe\x00x") and None,  # type: ignore[func-returns-value]
    "metrics.csv of a header": lambda folder, _: (folder / "metrics.csv").write_text(
        (folder / "metrics.csv").read_text().partition("\n")[0] + "\n") and None,  # type: ignore[func-returns-value]
    "metrics.csv with a column renamed": lambda folder, _: (folder / "metrics.csv").write_text(
        (folder / "metrics.csv").read_text().replace("value_loss", "vl")) and None,  # type: ignore[func-returns-value]
    "metrics.csv of a terabyte": _large("metrics.csv"),
    "summary.json of a terabyte": _large("summary.json"),
    "config.yaml of a terabyte": _large("config.yaml"),
    "evaluation.csv of a terabyte": _large("evaluation.csv"),
}  # fmt: skip
