"""Finds the processes of a run by JAX: which one this is, and where the first one listens.

This file is a program of its own (``joining.py`` calls it), for two reasons. If a process does not
come, or dies at this moment, JAX's runtime ends the program by an abort that no code can catch. And
a process that has met the others once stays tied to them by JAX: it compiles, caches and ends
differently. Seeds exchange nothing, so the processes that train remain ordinary ones.

The program reads the request as JSON from standard input, and prints the answer as JSON. Then it is
over. It also ends when its standard input does, so that it does not outlive its parent.
"""

import json
import os
import sys
import threading
from typing import Any


def main() -> None:
    """Meets the other processes, and prints who is there."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import jax
    from jax._src import distributed  # JAX has no public way to ask what it has found

    jax.distributed.initialize(
        request["coordinator"],
        request["num_processes"],
        request["process_id"],
        initialization_timeout=request["timeout"],
        heartbeat_timeout_seconds=30,
        shutdown_timeout_seconds=30,
    )
    found: Any = distributed.global_state
    if found.process_id == 0:
        found.client.key_value_set("ppg_jax/first", json.dumps(request["place"]))
    place = json.loads(found.client.blocking_key_value_get("ppg_jax/first", 30_000))
    answer = {
        "index": found.process_id,
        "count": found.num_processes,
        "host": found.coordinator_address.rpartition(":")[0],
        "port": place["port"],
        "token": place["token"],
        "cuda": jax.config.read("jax_cuda_visible_devices"),
        "rocm": jax.config.read("jax_rocm_visible_devices"),
    }
    jax.distributed.shutdown()
    print(json.dumps(answer), flush=True)


def _end_with_parent() -> None:
    while os.read(0, 1):  # not by sys.stdin, which a thread must not hold when Python ends
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
