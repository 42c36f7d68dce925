"""The policy that tries its choices on copies of the customers."""

import numpy as np
import pytest

from qurate.environments import planner as planning
from qurate.environments.engine import BatchedEngine
from qurate.environments.planner import planner
from qurate.environments.references import LatentPolicy
from qurate.environments.registry import make_engine
from qurate.environments.worlds import references
from qurate.errors import UserError
from qurate.evaluation.rollouts import rollout


def worst_first(engine: BatchedEngine) -> LatentPolicy:
    """The second best of what is worth most now, then the best."""
    myopic = references("shop")["true_myopic"](engine)

    def values(engine: BatchedEngine) -> np.ndarray:
        out = np.array(myopic.values(engine), np.float64)
        out[np.arange(len(out)), out.argmax(1)] = np.sort(out, axis=1)[:, -2] - 1e-9
        return out

    return LatentPolicy(engine, "worst_first", values)


def test_it_earns_more_than_a_base_policy_that_shows_the_second_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "HORIZON", 4)
    engine = make_engine("shop", n_items=40)
    base, planned = (rollout(engine, made, 3, 60, every_lane=True) for made in (worst_first(engine), planner(worst_first, engine)))
    assert (planned.returns - base.returns).mean() > 0


def test_the_customers_themselves_meet_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CERTAIN", 1e9)  # no choice is certain enough
    monkeypatch.setattr(planning, "HORIZON", 2)
    far = references("live")["far_sighted"]
    engine = make_engine("live")
    base, planned = (rollout(engine, made, 5, 8, every_lane=True) for made in (far(engine), planner(far, engine)))
    assert np.array_equal(base.returns, planned.returns)


def test_copies_go_on_from_where_the_customers_are() -> None:
    far = references("live")["far_sighted"]
    engine = make_engine("live")
    engine.reset(1, 6)
    policy = planner(far, engine)
    for _ in range(3):
        engine.step(far(engine).act(engine.observation, np.random.default_rng(0))[0])
    copies = policy.values.copies  # type: ignore[attr-defined]
    lanes = np.array([4, 1, 1])
    policy.values._copy(engine, lanes)  # type: ignore[attr-defined]
    for name in ("candidates", "mask", "values"):
        assert np.array_equal(getattr(copies.observation.actions, name), getattr(engine.observation.actions, name)[lanes], equal_nan=True)
    for own, copied in zip(engine.observation.state, copies.observation.state):
        assert np.array_equal(own[lanes], copied)
    assert np.array_equal(copies.world.satisfaction, engine.world.satisfaction[lanes])  # type: ignore[attr-defined]


def test_what_is_raised_is_worth_more_and_only_for_the_first_customer_of_a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "HORIZON", 1)
    monkeypatch.setattr(planning, "FUTURES", 200)
    engine = make_engine("shop", n_items=40)
    engine.reset(2, 60)
    engine.customer[:30] += engine.n
    values, base = planner(worst_first, engine).values(engine), worst_first(engine).values(engine)
    now = references("shop")["true_myopic"](engine).values(engine)
    raised = np.flatnonzero(np.isinf(values).any(1))
    assert len(raised) > 5 and raised.min() >= 30 and np.array_equal(values[:30], base[:30].astype(np.float32))
    better = now[raised, values[raised].argmax(1)] > now[raised, base[raised].argmax(1)]
    assert better.mean() > 0.8


def test_every_choice_meets_the_same_luck_and_nothing_counts_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine("shop", n_items=40, max_steps=3)
    engine.reset(4, 20)
    planned = planner(worst_first, engine).values
    twice = np.repeat(np.arange(20)[:, None], 2, axis=1)
    returns = planned._returns(engine, np.arange(20), twice)  # type: ignore[attr-defined]
    assert np.array_equal(returns[:, :, 0], returns[:, :, 1]) and returns.std(0).max() > 0
    monkeypatch.setattr(planning, "HORIZON", 3)  # that of a customer who stays
    assert np.array_equal(planned._returns(engine, np.arange(20), twice), returns)  # type: ignore[attr-defined]


def test_slates_are_refused() -> None:
    engine = make_engine("shop", slate_size=2)
    with pytest.raises(UserError, match="single items"):
        planner(references("shop")["far_sighted"], engine)
