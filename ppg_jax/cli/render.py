"""``ppg-jax render``."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ppg_jax.cli.options import NO_CACHE, SETTING, parse
from ppg_jax.config import ConfigError

if TYPE_CHECKING:
    from ppg_jax.runs import SavedRun


@dataclasses.dataclass
class _RenderCommand:
    """Writes an episode of a trained policy as a GIF."""

    directory: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR", help="Folder of a run or a sweep.")
    ]
    file: Annotated[
        str,
        tyro.conf.arg(
            metavar="FILE",
            help="GIF to write; default: episode.gif (of a sweep: episode_setting_N.gif) in DIR.",
        ),
    ] = ""
    seed: Annotated[int, tyro.conf.arg(help="Seed whose policy plays.")] = 0
    episode: Annotated[int, tyro.conf.arg(help="Number of the episode, from 0 on.")] = 0
    greedy: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="Take the most probable action instead of a sample."),
    ] = False
    max_steps: Annotated[int, tyro.conf.arg(help="Maximum number of frames.")] = 500
    setting: Annotated[str, tyro.conf.arg(metavar="INT", help=SETTING)] = ""
    no_cache: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=NO_CACHE)] = False


def main(argv: list[str]) -> int:
    args = parse(_RenderCommand, argv, "ppg-jax render")
    if args.max_steps < 1:
        raise ConfigError(f"max_steps: {args.max_steps} is invalid; it should be at least 1")
    if args.file and Path(args.file).suffix != ".gif":
        raise ConfigError(f"file: {args.file!r} is invalid; its name should end in .gif")
    from ppg_jax.cli.saved import load_with_warnings, lost_seeds
    from ppg_jax.execution import use_compilation_cache

    if not args.no_cache:
        use_compilation_cache()
    run = load_with_warnings(args.directory, args.setting)
    file = Path(args.file) if args.file else args.directory / _default_name(run)
    total = run.render(
        file, seed=args.seed, episode=args.episode, greedy=args.greedy, max_steps=args.max_steps
    )
    bad = lost_seeds(run)[args.seed]
    mark = "" if bad is None else f" (the seed's loss was NaN or infinite from iteration {bad} on)"
    print(f"return {total:.2f}{mark}, written to {file}")
    return 0


def _default_name(run: "SavedRun") -> str:
    """Name of the file: every setting of a sweep has its own."""
    setting = getattr(run, "setting", None)
    return "episode.gif" if setting is None else f"episode_setting_{setting}.gif"
