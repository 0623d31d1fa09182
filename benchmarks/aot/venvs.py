"""Virtual environments with the compilers of accelerators."""

import shutil
import subprocess
import sys
from pathlib import Path

JAX = "0.11.2"
"""Of the compilers. JAX 0.9.2 compiles too, but its peak memory is wrong."""
OLDEST = (3, 12)
"""Python that this JAX needs."""
PROJECT = Path(__file__).parent.parent.parent
REJAX = ("rejax", "gymnax==0.0.9", "six")


def make_venv(folder: Path, package: str, rejax: bool) -> Path:
    """A Python with a compiler, and with this project or Rejax; an existing one is kept.

    Args:
      folder: holds all of them.
      package: the extra of JAX: ``cuda12`` or ``tpu``.
      rejax: whether Rejax is wanted, which cannot stand beside this project.
    """
    place = folder / (f"{package}-rejax" if rejax else package)
    python, done = place / "bin" / "python", place / "complete"
    if done.exists():
        return python
    wanted = REJAX if rejax else ("-e", str(PROJECT))
    _call([recent_python(), "-m", "venv", str(place)])
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    _call([*pip, f"jax[{package}]=={JAX}", *wanted])
    done.touch()
    return python


def recent_python() -> str:
    """A Python that is new enough.

    Raises:
      SystemExit: there is none.
    """
    for name in (sys.executable, "python3.12", "python3.13", "python3.14", "python3", "python"):
        found = shutil.which(name)
        if found and _version(found) >= OLDEST:
            return found
    wanted = ".".join(map(str, OLDEST))
    raise SystemExit(f"no Python {wanted} or newer on the PATH, which JAX {JAX} needs; install one")


def _version(python: str) -> tuple[int, ...]:
    """(0,) if it does not run: a version manager's stand-in for one that is not installed."""
    script = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    return (0,) if done.returncode else tuple(map(int, done.stdout.split()))


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise SystemExit(f"{' '.join(command)}: {''.join(last)}")
