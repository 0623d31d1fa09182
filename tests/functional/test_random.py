"""Permutations are permutations, and fair."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.functional.random import permutations


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
