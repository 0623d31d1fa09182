"""The command line: ``ppg-jax train | sweep | eval | plot | render | list``."""

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from platform import python_version

import jax

from ppg_jax.config import ConfigError, did_you_mean

USAGE = """usage: ppg-jax COMMAND ...

  train [CONFIG] [--seeds N] [--out DIR] [--field value | --section.field value ...]
  train --resume DIR [--total-timesteps N]
  sweep SPEC.yaml --out DIR [--seeds N] [--field value ...]
  eval DIR [--episodes N] [--greedy] [--seed N] [--env-params.NAME VALUE]
  plot DIR [DIR ...] [--by FIELD ...] [--out DIR]
  render DIR [--file FILE.gif] [--seed N] [--greedy]
  list

ppg-jax COMMAND --help says more, ppg-jax --version which version this is."""
COMMANDS = ("train", "sweep", "eval", "plot", "render", "list")
STOPPED = 130
"""Exit code after Ctrl-C that did not wait."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``ppg-jax``.

    Args:
      argv: arguments; default the process's own.

    Returns:
      Exit code: 0, 1 for a failure while running, 2 for a bad argument or configuration, 130
      for Ctrl-C.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if args else 2
    if args[0] in ("-V", "--version"):
        print(f"ppg-jax {version('ppg-jax')} (jax {jax.__version__}, Python {python_version()})")
        return 0
    try:
        if args[0] not in COMMANDS:
            hint = did_you_mean(args[0], COMMANDS)
            raise ConfigError(f"command: {args[0]!r} is unknown; {hint}use {', '.join(COMMANDS)}")
        command = importlib.import_module(f"ppg_jax.cli.{args[0]}")
        return command.main(args[1:])
    except ConfigError as error:
        return _fail(str(error), 2)
    # A full disk, memory run out, a NaN that JAX_DEBUG_NANS found, a file of brackets.
    except (OSError, jax.errors.JaxRuntimeError, FloatingPointError, RecursionError) as error:
        return _fail(" ".join(str(error).split())[:500], 1)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped", STOPPED)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
