import numpy as np
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.registry import make_engine
from qurate.errors import UserError
from qurate.evaluation.rollouts import positions_of, rollout
from qurate.evaluation.static_list import StaticCycle, StaticSearch, StaticSlate, best_static
from qurate.types import Actions, Observation, State


class Uniform:
    name = "random"

    def act(self, observation, rng):
        n, k = observation.actions.candidates.shape
        return rng.integers(0, k, n), np.full(n, 1 / k)


def observation(history, candidates, mask=None, types=None) -> Observation:
    items = np.asarray(history, np.int64)
    candidates = np.asarray(candidates, np.int64)
    zeros = np.zeros(items.shape, np.float32)
    mask = np.ones(candidates.shape, np.int8) if mask is None else np.asarray(mask, np.int8)
    types = np.ones(items.shape, np.int64) if types is None else np.asarray(types)
    none = np.zeros((len(items), 0), np.float32)
    return Observation(State(items, types, zeros, zeros, none, none), Actions(candidates, mask))


def test_positions_of_shared_and_own_candidates() -> None:
    shared = np.broadcast_to(np.array([4, 2, 9]), (3, 3))
    assert positions_of(shared, np.array([9, 4, 7])).tolist() == [2, 0, -1]
    assert positions_of(shared.copy(), np.array([9, 4, 7])).tolist() == [2, 0, -1]
    assert positions_of(shared, np.array([11, 2, 0])).tolist() == [-1, 1, -1]


def test_the_cycle_goes_on_from_the_item_shown_last() -> None:
    policy = StaticCycle([3, 1, 2], shown_type=1)
    seen = observation([[0, 0], [0, 3], [3, 1], [1, 2], [1, 9]], np.broadcast_to(np.arange(1, 10), (5, 9)))
    positions, propensities = policy.act(seen, np.random.default_rng(0))
    assert (positions + 1).tolist() == [3, 1, 2, 3, 2]
    assert propensities.tolist() == [1.0] * 5
    bought_late = observation([[1, 3]], [[1, 2, 3]], types=[[1, 2]])  # 3 was bought later, but 1 was shown last
    assert (policy.act(bought_late, np.random.default_rng(0))[0] + 1).tolist() == [2]


def test_the_cycle_passes_over_what_may_not_be_shown() -> None:
    policy = StaticCycle([3, 1], shown_type=1)
    seen = observation([[0, 0], [0, 0], [0, 0]], [[1, 2, 3]] * 3, mask=[[1, 1, 0], [0, 1, 0], [1, 1, 1]])
    assert (policy.act(seen, np.random.default_rng(0))[0] + 1).tolist() == [1, 2, 3]
    with pytest.raises(UserError, match="different items"):
        StaticCycle([1, 1])


def test_the_slate_replaces_what_may_not_be_shown() -> None:
    seen = observation([[0], [0]], [[1, 2, 3, 4], [4, 3, 2, 1]], mask=[[1, 1, 1, 1], [1, 0, 1, 1]])
    positions, propensities = StaticSlate([4, 3]).act(seen, np.random.default_rng(0))
    assert positions.tolist() == [[3, 2], [0, 2]]
    assert propensities.shape == (2, 2)


def test_the_best_single_item_is_found_where_nothing_tires(tiny_world) -> None:
    world = tiny_world(n_items=5, steps=6)
    found = best_static(world, Uniform(), seed=1, search=StaticSearch(customers=16, length=3, pool=5))
    assert found.items.tolist() == [5]


def test_the_search_alternates_where_repetition_earns_nothing(tiny_world) -> None:
    """The same item twice in a row earns 0: the best list alternates the two best items, from the better one."""
    world = tiny_world(n_items=5, steps=6, tiring=True)
    found = best_static(world, Uniform(), seed=1, search=StaticSearch(customers=16, length=4, pool=5))
    assert found.items.tolist() == [5, 4]
    assert rollout(world, found, seed=2, customers=4).returns.tolist() == [27.0] * 4


def test_slates_in_the_shop() -> None:
    """The best fixed slate earns at least what the first one found by exploring earns on the search's own customers."""
    shop = make_engine("shop", n_items=20, slate_size=2, max_steps=6)
    search = StaticSearch(customers=32, pool=4, sweeps=1, slate_size=2, explorers=256)
    found = best_static(shop, random_policy(2), seed=3, search=search)
    assert len(set(found.items.tolist())) == 2
    result = rollout(shop, found, seed=3, customers=32)
    assert result.shown.sum() == 2 * result.length.sum()
    assert np.flatnonzero(result.shown).tolist() == sorted(found.items.tolist())
    assert result.returns.mean() >= rollout(shop, random_policy(2), seed=3, customers=32).returns.mean()
