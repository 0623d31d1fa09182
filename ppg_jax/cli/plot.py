"""``ppg-jax plot``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from ppg_jax.cli.options import parse
from ppg_jax.config import ConfigError

MARK = "ppg-jax plot"
"""Text that marks the files of this command. It overwrites no file without this mark."""


@dataclasses.dataclass
class _PlotCommand:
    """Compares runs: learning curves (IQM, 95% interval), performance profile, Markdown table."""

    directories: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(
            metavar="DIR", help="Folders of runs or sweeps, or folders that contain such folders."
        ),
    ]
    by: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="FIELD", help="Fields to group by; default: those that differ."),
    ] = ()
    per_seed: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="Also draw a line for every seed.")
    ] = False
    out: Annotated[
        str, tyro.conf.arg(metavar="DIR", help="Folder for the figures and report.md.")
    ] = "."


def main(argv: list[str]) -> int:
    args = parse(_PlotCommand, argv, "ppg-jax plot")
    from ppg_jax.report import group_runs, markdown_table, plot_curves, plot_profile, shared_envs
    from ppg_jax.runs import open_runs, write_figure, write_whole

    runs = [run for folder in run_folders(args.directories) for run in open_runs(folder)]
    groups = group_runs(runs, args.by or None)
    figures = {"learning_curves": plot_curves(groups, per_seed=args.per_seed)}
    if len(groups) > 1 and shared_envs(groups):
        figures["performance_profile"] = plot_profile(groups)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    names = [f"{name}.{kind}" for name in figures for kind in ("png", "svg")]
    for name in ("report.md", *names):
        _check_own(out / name)
    for name, figure in figures.items():
        for kind, key in (("png", "Software"), ("svg", "Creator")):
            write_figure(out / f"{name}.{kind}", figure, dpi=200, metadata={key: MARK})
    table = markdown_table(groups)
    write_whole(out / "report.md", f"<!-- {MARK} -->\n\n{table}")
    print(table)
    print(f"written to {out}: report.md, {', '.join(names)}")
    return 0


def _check_own(file: Path) -> None:
    """Checks that a file may be written: it does not exist, or this command made it.

    Raises:
      ConfigError: the file exists and this command did not make it.
    """
    if file.is_file():
        with file.open("rb") as found:
            if MARK.encode() in found.read(4096):
                return
    if file.exists() or file.is_symlink():
        raise ConfigError(f"out: {file} was not made by {MARK}; name another folder with --out")


def run_folders(given: tuple[Path, ...]) -> list[Path]:
    """Run folders among the given folders, or one level below them.

    Raises:
      ConfigError: a given folder is not a run folder and contains none.
    """
    found: list[Path] = []
    for folder in given:
        inside = sorted(path.parent for path in folder.glob("*/config.yaml"))
        here = [folder] if (folder / "config.yaml").is_file() else inside
        if not here:
            raise ConfigError(f"DIR: {folder} is not a run folder: it has no config.yaml")
        found += here
    if not found:
        raise ConfigError("DIR: is missing; name at least one run folder")
    return found
