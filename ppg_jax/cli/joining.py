"""The options of commands that run in several processes."""

from typing import Any

from ppg_jax.config import ConfigError


def join_processes(args: Any) -> bool:
    """Joins the processes, if ``--distributed`` is given.

    Args:
      args: parsed options ``distributed``, ``coordinator``, ``num_processes`` and ``process_id``.

    Returns:
      Whether this is the process that prints the results.

    Raises:
      ConfigError: the options do not fit together, or the processes have not met.
    """
    if not args.distributed:
        for name in ("coordinator", "num_processes", "process_id"):
            if getattr(args, name) not in ("", None):
                option = name.replace("_", "-")
                raise ConfigError(f"{option}: it needs --distributed")
        return True

    from ppg_jax.execution import distributed

    return distributed(args.coordinator or None, args.num_processes, args.process_id).first
