"""Every environment keeps the promises of one; environments that break one are told which."""

from typing import Any

import numpy as np
import pytest

from qurate.environments.engine import BatchedEngine
from qurate.environments.registry import make_engine, make_env
from qurate.environments.worlds import WORLDS
from qurate.testing import check_env
from qurate.types import Feedback, Observation

NAMES = [name for name, record in WORLDS.items() if not record.needs_source]
VARIETIES: list[dict[str, Any]] = [
    {"n_items": 40, "strength": 0.0, "max_steps": 3},
    {"n_items": 40, "strength": 2.0, "n_candidates": 6, "window": 3},
    {"n_items": 40, "slate_size": 4},
    {"n_items": 40, "slate_size": 3, "n_candidates": 5},
]


@pytest.mark.parametrize("name", NAMES)
def test_engines(name: str) -> None:
    check_env(make_engine(name))


@pytest.mark.parametrize("arguments", VARIETIES, ids=str)
def test_shops_of_all_kinds(arguments: dict[str, Any]) -> None:
    check_env(make_engine("shop", **arguments))


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_environments(name: str) -> None:
    check_env(make_env(name, max_steps=10))


def test_gymnasium_slates() -> None:
    check_env(make_env("shop", n_items=40, slate_size=3, n_candidates=6))
    check_env(make_env("interest_evolution", slate_size=2))
    check_env(make_env("long_term_satisfaction", slate_size=2))


@pytest.mark.parametrize("arguments", [{"slate_size": 2}, {"slate_size": 3, "max_steps": 5, "window": 1}, {"n_candidates": 30}], ids=str)
def test_documents_of_interest_evolution(arguments: dict[str, Any]) -> None:
    check_env(make_engine("interest_evolution", **arguments))


@pytest.mark.parametrize("arguments", [{"slate_size": 2}, {"n_items": 5, "n_candidates": 9, "sensitivity": 0.25, "strength": 2.0}], ids=str)
def test_documents_of_long_term_satisfaction(arguments: dict[str, Any]) -> None:
    check_env(make_engine("long_term_satisfaction", **arguments))


class Broken:
    """A shop that cheats in one way."""

    def __init__(self, how: str) -> None:
        self.how, self.engine, self.resets = how, make_engine("shop", n_items=40, max_steps=20), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def reset(self, seed: int, n: int) -> Observation:
        self.resets += 1
        seeds = {"batch": seed + n, "unseeded": self.resets, "deaf": 0}
        return self.spoilt(self.engine.reset(seeds.get(self.how, seed), n))

    def spoilt(self, o: Observation) -> Observation:
        if self.how == "right padding":
            items, types = o.state.history_items[:, ::-1], o.state.history_types[:, ::-1]
            return o._replace(state=o.state._replace(history_items=items, history_types=types))
        if self.how == "types":
            return o._replace(state=o.state._replace(history_gaps=o.state.history_gaps.astype(np.float64)))  # type: ignore[arg-type]
        if self.how == "nothing open":
            return o._replace(actions=o.actions._replace(mask=np.zeros(o.actions.mask.shape, np.int8)))
        if self.how == "context":
            return o._replace(state=o.state._replace(context=o.state.context + 1))
        return o

    def step(self, actions: Any) -> Feedback:
        if self.how == "forgiving":
            actions = actions % 40
        f = self.engine.step(actions)
        if self.how == "reward":
            f = f._replace(reward=f.reward + 1)
        if self.how == "both ends":
            f = f._replace(truncated=f.truncated | f.terminated)
        if self.how == "late rows":
            f = f._replace(rows=f.rows._replace(time=f.rows.time + 1_000_000_000))
        if self.how == "lost rows":
            f = f._replace(rows=f.rows._replace(item=np.roll(f.rows.item, 1)))
        return f._replace(obs=self.spoilt(f.obs))


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("right padding", "observation: padding is not on the left"),
        ("types", "observation: history_gaps is float64"),
        ("nothing open", "observation: a customer without any allowed candidate"),
        ("context", "observation: context is not derive_context"),
        ("reward", "feedback: reward is not the weighted sum"),
        ("both ends", "feedback: terminated and truncated at once"),
        ("late rows", "feedback: a row later than the next decision"),
        ("lost rows", "history: history_items is not the old window and the new rows"),
        ("unseeded", "same seed, same customers"),
        ("deaf", "another seed, other customers"),
        ("batch", "batch size changes nothing"),
        ("forgiving", "illegal actions are refused"),
    ],
)
def test_broken_engines_are_told_which_rule(how: str, rule: str) -> None:
    with pytest.raises(AssertionError, match=f"^{rule}"):
        check_env(Broken(how))


def test_a_broken_catalogue() -> None:
    engine: BatchedEngine = make_engine("shop", n_items=40)
    engine.world.item_features = engine.item_features[1:]  # type: ignore[misc]
    with pytest.raises(AssertionError, match=r"^catalogue: item_features"):
        check_env(engine)
