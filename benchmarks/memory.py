"""Peak memory of a compiled run over the sum of what it must hold.

    python benchmarks/memory.py minatar/breakout

What it must hold: parameters, optimizer states, one phase's observations in their storage dtype,
and the activations of one auxiliary minibatch (every layer's output of every network, which the
backward pass needs). What it does hold: arguments, outputs and temporaries of the compiled
program, by XLA's own account (``compiled.memory_analysis()``).
"""

import math
import sys

import flax.linen as nn
import jax
from common import finish, options

from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.ppg import build
from ppg_jax.algorithm.train import make_train
from ppg_jax.config.config import Config
from ppg_jax.config.yaml_files import load_config
from ppg_jax.networks.agent import Unroll
from ppg_jax.networks.network import AUX_VALUE, POLICY, VALUE
from ppg_jax.types import Inputs, NetworkState


def size(tree: object) -> int:
    """Bytes of all leaves."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree) if _plain(x))


def _plain(x: object) -> bool:
    return not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def activations(config: Config, lead: tuple[int, int] | None = None) -> int:
    """Bytes of every module's output for one minibatch, and of its input as float32.

    Args:
      config: what is trained.
      lead: steps and sequences of the minibatch; None: those of the auxiliary phase.
    """
    ppg = build(config)
    env, agent = ppg.env, ppg.agent
    if lead is None:
        sequences = config.n_pi * config.num_envs // config.num_aux_minibatches
        lead = (config.num_steps, sequences)
    sequences = lead[1]

    def outputs() -> object:
        kept = []

        def keep(call, args, kwargs, context):
            result = call(*args, **kwargs)
            if context.method_name == "__call__" and isinstance(result, jax.Array):
                kept.append(result)
            return result

        params = agent.init(jax.random.key(0))
        obs = jax.numpy.zeros((*lead, *env.observation.shape), env.observation.dtype)
        starts, memory = jax.numpy.zeros(lead, bool), agent.initial_memory(sequences)
        with nn.intercept_methods(keep):
            how = Unroll((POLICY, VALUE, AUX_VALUE))
            agent.unroll(NetworkState(params), Inputs(obs, starts), memory, how)
        return kept, obs.astype(jax.numpy.float32)

    return size(jax.eval_shape(outputs))


def report(config: Config) -> dict:
    """All parts in bytes, and the ratio."""
    env = build(config).env
    key = jax.random.key(0)
    state = jax.eval_shape(lambda k: init(config, k), key)
    samples = config.n_pi * config.steps_per_iteration
    observation = math.prod(env.observation.shape) * env.observation.dtype.itemsize
    needed = {
        "parameters": size(state.params),
        "optimizer_states": size(state.opt_states),
        "observations_of_a_phase": samples * observation,
        "activations_of_a_minibatch": activations(config),
    }
    used = jax.jit(make_train(config)).lower(key).compile().memory_analysis()
    held = {
        "arguments": used.argument_size_in_bytes,
        "outputs": used.output_size_in_bytes,
        "temporaries": used.temp_size_in_bytes,
        "aliased": -used.alias_size_in_bytes,
    }
    ratio = sum(held.values()) / sum(needed.values())
    return {"needed": needed, "held": held, "ratio": round(ratio, 3)}


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("config", nargs="?", default="minatar/breakout")
    args = parser.parse_args(argv)
    return finish(args, lambda: [{"config": args.config} | report(load_config(args.config))])


if __name__ == "__main__":
    sys.exit(main())
