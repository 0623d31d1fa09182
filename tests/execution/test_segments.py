"""The host's loop over compiled programs: in which thread, and with what, they are made."""

import threading

import jax
import jax.numpy as jnp
import pytest

from ppg_jax.config.config import Config
from ppg_jax.execution.dispatch import gather, over_replicas, repeat, run_batches, shard
from ppg_jax.execution.layout import Layout
from ppg_jax.execution.segments import compile_all, programs


@pytest.mark.parametrize("layout", [Layout("map", 1, 1, 4), Layout("map", 2, 1, 4)])
def test_programs_compiled_before_the_first_has_run(layout):
    """Each takes what the one before gives: random keys, and replicas on their devices."""

    def first(factor, key):
        return {"key": key, "x": factor * jax.random.uniform(key, (3,))}, {}

    def second(factor, state):
        new = {"key": jax.random.fold_in(state["key"], 1), "x": state["x"] + factor}
        return new, {"sum": state["x"].sum()}

    steps = [jax.jit(over_replicas(fn, layout)) for fn in (first, second, second)]
    keys = jax.random.split(jax.random.key(0), 4)
    factors = repeat(jnp.float32(2.0), layout)
    states = shard(keys, layout)
    for program in compile_all(steps, layout, factors[0], states[0]):
        done = run_batches(program, factors, states, layout)
        states = [state for state, _ in done]
    expected = 2.0 * jax.vmap(lambda key: jax.random.uniform(key, (3,)))(keys)
    state, metrics = gather(done, layout)
    assert jnp.allclose(state["x"], expected + 4.0)
    assert jnp.allclose(metrics["sum"], (expected + 2.0).sum(1))


def test_the_caller_s_settings_hold():
    """JAX's are the thread's: traced in another, a run would not see them."""
    layout = Layout("map", 1, 1, 1)
    threads, precisions = [], []

    def fn(_, x):
        threads.append(threading.current_thread())
        precisions.append(jax.config.jax_default_matmul_precision)
        return x @ x, {}

    program = jax.jit(over_replicas(fn, layout))
    with jax.default_matmul_precision("highest"):
        compile_all([program], layout, 0, jnp.ones((1, 4, 4)))
    assert set(threads) == {threading.current_thread()}
    assert set(precisions) == {"highest"}


def test_training_writes_over_its_state():
    """A batch's new state takes the memory of the one before."""
    config = Config(num_envs=4, num_steps=8, n_pi=1, total_timesteps=32, num_minibatches=2,
                    num_aux_minibatches=2)  # fmt: skip
    layout = Layout("map", 1, 1, 3)
    (first_program, *_), (training, *_) = programs(config, layout, True)
    state, _ = jax.eval_shape(first_program, config.hparams, jax.random.split(jax.random.key(0), 1))
    lowered = training.lower(jax.tree.map(jnp.float32, config.hparams), state)
    assert lowered.as_text().count("tf.aliasing_output") == len(jax.tree.leaves(state))


class Waiting:
    """A program that only compiles once the next one is being traced."""

    def __init__(self, traced, next_traced):
        self.traced, self.next_traced = traced, next_traced
        self.out_info = (jnp.zeros(1), {})

    def lower(self, *_):
        self.traced.set()
        return self

    def compile(self):
        return self.next_traced.wait(20)


def test_one_is_traced_while_another_compiles():
    a, b = threading.Event(), threading.Event()
    pair = [Waiting(a, b), Waiting(b, a)]
    assert compile_all(pair, Layout("map", 1, 1, 1), 0, jnp.zeros(1)) == [True, True]


def test_what_does_not_compile_is_said():
    class Broken(Waiting):
        def compile(self):
            raise ValueError("no")

    seen = threading.Event()
    programs_of_a_run = [Waiting(seen, seen), Broken(seen, seen)]
    with pytest.raises(ValueError, match=r"^no$"):
        compile_all(programs_of_a_run, Layout("map", 1, 1, 1), 0, jnp.zeros(1))
