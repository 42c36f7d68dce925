"""Prioritised replay: the tree against cumulative sums, draws by chi-square, weights by hand."""

import numpy as np
import pytest

from qurate.replay.prioritised import SMALLEST_PRIORITY, TOP, PrioritisedSampler, SumTree

CHI_SQUARE_999 = {19: 43.82}
"""The 99.9 % quantile of chi-square, by degrees of freedom."""


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100, TOP, TOP + 1, 70_001])
def test_the_tree_finds_what_cumulative_sums_find(size: int) -> None:
    rng = np.random.default_rng(size)
    tree = SumTree(size)
    for _ in range(5):
        index = rng.integers(0, size, 8)
        tree.set(index, rng.random(8) * (rng.random(8) < 0.8))
        values = tree.values.copy()
        assert tree.total == pytest.approx(values.sum())
        if values.sum() == 0:
            continue
        prefix = rng.random(200) * values.sum() * (1 - 1e-9)
        found = tree.find(prefix)
        assert found.tolist() == np.searchsorted(values.cumsum(), prefix, "right").tolist()
        assert (values[found] > 0).all(), "what has no priority is never found"


@pytest.mark.parametrize("size", [100, TOP + 1, 70_001])
def test_a_full_tree_is_searched_within_its_blocks(size: int) -> None:
    """Whole numbers, so that many prefixes end exactly where a value does."""
    rng = np.random.default_rng(size)
    tree, values = SumTree(size), rng.integers(0, 4, size).astype(np.float64)
    tree.set(np.arange(size), values)
    prefix = rng.integers(0, int(values.sum()), 2_000).astype(np.float64)
    assert tree.find(prefix).tolist() == np.searchsorted(values.cumsum(), prefix, "right").tolist()


def test_of_a_repeated_index_the_last_value_stays() -> None:
    tree = SumTree(5)
    tree.set(np.array([3, 3, 1]), np.array([9.0, 2.0, 1.0]))
    assert tree.values.tolist() == [0, 1, 0, 2, 0] and tree.total == 3


def test_draws_follow_the_priorities() -> None:
    sampler = PrioritisedSampler(20, alpha=0.7)
    sampler.add(np.arange(20))
    errors = np.linspace(-2, 3, 20).astype(np.float32)
    sampler.update(np.arange(20), errors)
    chance = (np.abs(errors.astype(np.float64)) + SMALLEST_PRIORITY) ** 0.7
    chance /= chance.sum()
    rng, counts = np.random.default_rng(0), np.zeros(20)
    for _ in range(20_000):  # one at a time: draws of one batch are stratified, not independent
        counts[sampler.sample(rng, 1).index] += 1
    expected = chance * counts.sum()
    assert ((counts - expected) ** 2 / expected).sum() < CHI_SQUARE_999[19]
    batch = np.bincount(sampler.sample(rng, 10_000).index, minlength=20)
    assert np.abs(batch - chance * 10_000).max() < 2, "stratified: a batch has each as often as it should, to the next whole number"


def test_importance_weights_by_hand() -> None:
    """p = 1, 4, 16 with alpha 1/2: P is 1/7, 2/7, 4/7. With beta 0.4 the weights are (n P)^-0.4 over the largest, that of P = 1/7."""
    sampler = PrioritisedSampler(3, alpha=0.5, beta=0.4, beta_draws=2)
    sampler.add(np.arange(3))
    sampler.update(np.arange(3), np.array([1, 4, 16], np.float32))
    rng = np.random.default_rng(1)
    for beta in (0.4, 0.7, 1.0, 1.0):  # linear over two draws, then 1
        index, weight = sampler.sample(rng, 64)
        assert weight is not None and set(index.tolist()) == {0, 1, 2}
        np.testing.assert_allclose(weight, np.array([1, 2.0**-beta, 4.0**-beta])[index], rtol=1e-5)


def test_new_transitions_get_the_largest_priority_seen_and_removed_ones_none() -> None:
    sampler = PrioritisedSampler(4, alpha=1.0)
    sampler.add(np.array([0, 1]))
    sampler.update(np.array([0, 1]), np.array([0.5, -7], np.float32))
    sampler.add(np.array([2]))
    np.testing.assert_allclose(sampler.tree.values, [0.5, 7, 7, 0], rtol=1e-5)
    sampler.remove(np.array([1]))
    assert 1 not in sampler.sample(np.random.default_rng(0), 500).index
    sampler.update(np.array([0]), np.array([np.nan], np.float32))
    assert np.isfinite(sampler.tree.values).all(), "an error that is no number does not spoil the sums"


def test_positions_that_hold_no_transition_any_more_are_never_drawn() -> None:
    gone = np.zeros(10, bool)
    sampler = PrioritisedSampler(10, ready=lambda index: ~gone[index])
    sampler.add(np.arange(10))
    gone[3:] = True
    index, weight = sampler.sample(np.random.default_rng(0), 200)
    assert len(index) == 200 and index.max() < 3 and weight is not None and len(weight) == 200


def test_it_goes_on_from_its_state() -> None:
    one, two = (PrioritisedSampler(6) for _ in range(2))
    one.add(np.arange(5))
    one.update(np.arange(5), np.arange(5, dtype=np.float32))
    one.sample(np.random.default_rng(0), 3)
    two.restore({name: array.copy() for name, array in one.state().items()})
    a, b = (sampler.sample(np.random.default_rng(7), 50) for sampler in (one, two))
    assert a.index.tolist() == b.index.tolist() and np.array_equal(a.weight, b.weight)  # type: ignore[arg-type]
    two.add(np.array([5]))
    assert two.tree.values[5] == pytest.approx((4 + SMALLEST_PRIORITY) ** 0.6)
