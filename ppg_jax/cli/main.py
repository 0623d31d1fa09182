"""The command line: ``ppg-jax train | sweep | tune | bench | eval | plot | render | list``."""

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from platform import python_version

import jax

from ppg_jax.config import ConfigError, did_you_mean

USAGE = """usage: ppg-jax COMMAND ...

  train [CONFIG] [--seeds N] [--out DIR] [--field value | --section.field value ...]
  train [CONFIG] --init-from DIR [--init-from-seed N]
  train --resume DIR [--total-timesteps N] [--stop-after TIME] [--stop-at-return X]
  train ... --distributed [--coordinator HOST:PORT --num-processes N --process-id I]
  sweep SPEC.yaml --out DIR [--seeds N] [--field value ...]
  sweep --resume DIR [SPEC.yaml]
  tune SPEC.yaml --out DIR [--budget N] [--field value ...]
  tune --resume DIR [--budget N]
  bench [CONFIG] [--seeds N ...] [--repeats N] [--out FILE.json] [--json] [--field value ...]
  eval DIR [--setting N] [--episodes N] [--greedy] [--seed N] [--env-params.NAME VALUE]
  plot DIR [DIR ...] [--by FIELD ...] [--out DIR]
  render DIR [--setting N] [--file FILE.gif] [--seed N] [--greedy]
  list

"ppg-jax COMMAND --help" shows the options, "ppg-jax --version" the version."""
COMMANDS = ("train", "sweep", "tune", "bench", "eval", "plot", "render", "list")
STOPPED = 130
"""Exit code after a Ctrl-C that stopped the command at once."""
GONE = 3
"""Exit code if another process of a run is gone (``execution.link.EXIT_CODE``)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``ppg-jax``.

    Args:
      argv: arguments; default: those of the process.

    Returns:
      Exit code: 0 for success, 1 for a failure while running, 2 for an invalid argument or
      configuration, 3 if another process of the run is gone, 130 for Ctrl-C.
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
    # For example a full disk, no memory left, a NaN found by JAX_DEBUG_NANS, too many brackets in
    # a file.
    except (OSError, jax.errors.JaxRuntimeError, FloatingPointError, RecursionError) as error:
        return _fail(" ".join(str(error).split())[:500], 1)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped", STOPPED)
    except Exception as error:
        from ppg_jax.execution import ProcessGoneError  # a heavy import, so only now

        if not isinstance(error, ProcessGoneError):
            raise
        return _fail(str(error), GONE)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
