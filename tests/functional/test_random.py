"""Unrolled Threefry gives jax.random's bits; permutations are permutations, and fair."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.functional.random import fast_key, permutations, threefry

DRAWS = {
    "bits8": lambda k: jax.random.bits(k, (7,), jnp.uint8),
    "bits16": lambda k: jax.random.bits(k, (3, 5), jnp.uint16),
    "bits32": lambda k: jax.random.bits(k, (2, 3, 4)),
    "scalar": lambda k: jax.random.uniform(k),
    "empty": lambda k: jax.random.bits(k, (0,)),
    "normal": lambda k: jax.random.normal(k, (33,)),
    "randint": lambda k: jax.random.randint(k, (9,), -5, 60),
    "categorical": lambda k: jax.random.categorical(k, jnp.arange(6.0), shape=(20,)),
    "split": lambda k: jax.random.key_data(jax.random.split(k, (2, 3))),
    "fold_in": lambda k: jax.random.key_data(jax.random.fold_in(k, 2**32 - 1)),
    "many": lambda k: jax.vmap(lambda q: jax.random.normal(q, (2,)))(jax.random.split(k, 5)),
}


@pytest.mark.parametrize("seed", [0, 12345, 2**32 - 1])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_unrolled_keys_draw_what_jax_draws(draw, seed):
    key = jax.random.key(seed)
    unrolled = fast_key(key)
    assert unrolled.dtype != key.dtype
    np.testing.assert_array_equal(draw(unrolled), draw(key))
    np.testing.assert_array_equal(jax.jit(draw)(unrolled), draw(key))


def test_a_key_is_made_fast_once_and_other_kinds_are_left_alone():
    key = fast_key(jax.random.key(0))
    assert fast_key(key) is key
    other = jax.random.key(0, impl="rbg")
    assert fast_key(other) is other
    assert fast_key(jax.random.split(jax.random.key(0), 3)).shape == (3,)


@pytest.mark.parametrize("num_items", [1, 2, 3, 64, 1000, 8192, 70_000])
def test_permutations_hold_every_item_once(num_items):
    orders = permutations(jax.random.key(1), num_items, 3)
    assert orders.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(num_items), (3, 1)))


def test_every_order_is_equally_likely():
    orders = np.asarray(permutations(jax.random.key(2), 4, 24_000))
    counts = [int((orders == p).all(1).sum()) for p in itertools.permutations(range(4))]
    assert sum(counts) == 24_000
    # 24 orders of 1000 each: chi-squared with 23 degrees of freedom exceeds 49.7 once in 1000.
    assert sum((n - 1000) ** 2 / 1000 for n in counts) < 49.7


def test_items_whose_random_bits_agree_are_still_shuffled():
    # 2^17 items leave 15 random bits, so 4 of them agree in a round's bits on average.
    order = np.asarray(permutations(jax.random.key(3), 2**17, 1)[0])
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    kept = (np.diff(place) > 0).mean()  # neighbours still in their old order
    assert abs(kept - 0.5) < 5 * 0.5 / np.sqrt(order.size)


@pytest.mark.parametrize("num_items", [6, 8])
def test_of_two_items_whose_random_bits_agree_either_may_come_first(num_items, monkeypatch):
    names = jax.random.bits
    monkeypatch.setattr(jax.random, "bits", lambda *args: names(*args) & 7)  # all agree
    orders = np.asarray(permutations(jax.random.key(4), num_items, 4000))
    place = np.argsort(orders, axis=1)
    for one, other in itertools.combinations(range(num_items), 2):
        first = (place[:, one] < place[:, other]).mean()
        assert abs(first - 0.5) < 5 * 0.5 / np.sqrt(4000), (one, other)


def test_too_many_items():
    with pytest.raises(ValueError, match="at most 16777216"):
        permutations(jax.random.key(0), 2**24 + 1, 1)


def test_no_loop_holds_all_rounds():
    """LLVM in jaxlib 0.11 does not come to an end with them: whole programs never compiled."""
    words = jnp.zeros(4, jnp.uint32)
    text = str(jax.make_jaxpr(lambda a: threefry((a, a), (a, a)))(words))
    before, after = text.split("optimization_barrier")
    assert before.count("shift_left") == 12
    assert after.count("shift_left") == 8
