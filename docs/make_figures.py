"""Makes the pictures of the README and the site from real runs: python docs/make_figures.py.

progress.svg, learning_curves.png and sweep.png beside this file, and pictures/episode.gif. It takes
two minutes.
"""

import io
import os
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageSequence
from rich.console import Console

import ppg_jax
from ppg_jax.execution.segments import Segment
from ppg_jax.report.curves import plot_curves
from ppg_jax.report.groups import group_runs
from ppg_jax.runs.progress import Bar, Watch

HERE = Path(__file__).parent
STEPS = 131_072


def progress(result: ppg_jax.Result) -> None:
    """The bar as it stood after two thirds of a run, played again at its own speed."""
    config, seconds = result.config, result.run_seconds / result.config.num_phases
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True)
    bar = Bar(console, config)
    bar.note("$ ppg-jax train cartpole --seeds 8 --out runs/cartpole")
    watch = Watch(config, config.seeds, bar, lambda seed: f"seed {seed}")
    for phase in range(2 * config.num_phases // 3):
        time.sleep(seconds)
        here = slice(phase * config.n_pi, (phase + 1) * config.n_pi)
        part = {name: x[:, here] for name, x in result.metrics.items()}
        watch.update(Segment(part, phase + 1, True, [], 0.0, (phase + 1) * seconds))
    console.print(bar)
    console.save_svg(str(HERE / "progress.svg"), title="ppg_jax")


def episode() -> None:
    """An episode of a trained policy, every second frame at half the size."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    config = ppg_jax.load_config("cartpole", total_timesteps=STEPS)
    with tempfile.TemporaryDirectory() as folder:
        ppg_jax.run(config, out=f"{folder}/run")
        whole = Path(folder) / "whole.gif"
        ppg_jax.load_run(f"{folder}/run").render(whole, greedy=True, max_steps=100)
        with Image.open(whole) as picture:
            frames = [
                frame.convert("L").resize((picture.width // 2, picture.height // 2))
                for frame in ImageSequence.Iterator(picture)
            ]
    first, *rest = frames[::2]
    file = HERE / "pictures" / "episode.gif"
    first.save(file, save_all=True, append_images=rest, duration=80, loop=0, optimize=True)


def main() -> None:
    runs = [
        ppg_jax.run(ppg_jax.load_config(name, total_timesteps=STEPS), seeds=8)
        for name in ("cartpole", "ppo/cartpole")
    ]
    progress(runs[0])
    plot_curves(group_runs(runs), per_seed=True).savefig(HERE / "learning_curves.png", dpi=150)
    sweep = ppg_jax.sweep(
        ppg_jax.load_config("cartpole", total_timesteps=STEPS // 2),
        {"learning_rate": [1e-4, 3e-4, 1e-3, 3e-3], "beta_clone": [0.1, 1.0, 10.0]},
        seeds=4,
    )
    sweep.plot().savefig(HERE / "sweep.png", dpi=150)
    episode()


if __name__ == "__main__":
    main()
