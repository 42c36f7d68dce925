"""Every policy keeps the promises of one; policies that break one are told which."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qurate.baselines.registry import FITTED, ChanceScorer, fit_baseline, random_policy
from qurate.choosing.merchandising import MerchandisingRules
from qurate.choosing.policy import MixturePolicy, ScoredPolicy
from qurate.choosing.selection import GREEDY, UNIFORM, epsilon_greedy_rule, softmax_rule
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.answer import observe
from qurate.models.histories import EMPTY_HISTORY
from qurate.models.model import Model
from qurate.testing import check_policy
from qurate.training.train import train
from qurate.types import Observation, Policy


class ByUser:
    """A score with ties that differs between customers."""

    name = "by_user"

    def scores(self, observation: Observation) -> Any:
        bias = np.round(observation.state.history_gaps.sum(axis=1) % 3)
        return ((observation.actions.candidates * 7 + bias[:, None]) % 5).astype(np.float32)


RULES = {"greedy": GREEDY, "uniform": UNIFORM, "epsilon": epsilon_greedy_rule(0.3), "softmax": softmax_rule(0.7)}


@pytest.mark.parametrize("slate", [1, 3])
@pytest.mark.parametrize("rule", RULES)
def test_scored_policies(rule: str, slate: int) -> None:
    check_policy(ScoredPolicy(ByUser(), RULES[rule], slate))


@pytest.mark.parametrize("slate", [1, 3])
def test_mixtures_and_rules_of_the_shop(slate: int) -> None:
    parts = [(0.6, ScoredPolicy(ByUser())), (0.4, random_policy())]
    check_policy(MixturePolicy(parts, slate))
    check_policy(ScoredPolicy(ByUser(), epsilon_greedy_rule(0.4), slate, MerchandisingRules(block=(2, 5))))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("shop")
    engine = make_engine("shop", n_items=30)
    simulate(engine, random_policy(), 60, 10, 0, folder / "events.parquet")
    return build_dataset(read_events(folder / "events.parquet"), episode="user")


@pytest.fixture(scope="module")
def model(shop: Dataset) -> Model:
    return train(shop, steps=3, window=10, hidden=8, embedding_dim=4, batch_size=32, form="now_later")


def customers(model: Model, shop: Dataset) -> Observation:
    from qurate.models.histories import Histories

    past = Histories.of(shop)
    rows = [EMPTY_HISTORY, *(past.rows(user, model.window) for user in range(7))]
    catalogue = model.availability.open_items(past.log_end)
    return observe(model, rows, np.full(8, past.log_end), catalogue, shop.user_features[:8])


@pytest.mark.parametrize("name", FITTED)
def test_baselines(name: str, shop: Dataset, model: Model) -> None:
    check_policy(fit_baseline(name, shop), customers(model, shop))


@pytest.mark.parametrize("by", ["q", "q_in_support", "behaviour", "behaviour_times_q"])
def test_a_model(by: Any, shop: Dataset, model: Model) -> None:
    observation = customers(model, shop)
    check_policy(ScoredPolicy(model.ranked_by(by)), observation)
    check_policy(ScoredPolicy(model.ranked_by(by), epsilon_greedy_rule(0.2), 2), observation)


class Broken:
    """Uniform over what may be shown, but for one fault."""

    name = "broken"

    def __init__(self, how: str) -> None:
        self.how, self.honest = how, ScoredPolicy(ChanceScorer(), UNIFORM)
        self.calls = 0

    def act(self, o: Observation, rng: np.random.Generator) -> Any:
        self.calls += 1
        if self.how == "deaf to masks":
            o = o._replace(actions=o.actions._replace(mask=np.ones(o.actions.mask.shape, np.int8)))
        if self.how == "own luck":
            rng = np.random.default_rng(self.calls)
        if self.how == "global luck":
            rng = np.random.default_rng(np.random.randint(10**6))  # noqa: NPY002 - the fault
        actions, p = self.honest.act(o, rng)
        if self.how == "int32":
            return actions.astype(np.int32), p
        if self.how == "float32":
            return actions, p.astype(np.float32)
        if self.how == "shapes":
            return actions, p[:, None]
        if self.how == "certain":
            return actions, np.where(p > 0, 1.0, 0.0)
        if self.how == "before masks":
            return actions, np.where(p > 0, 1 / o.actions.mask.shape[1], 0.0)
        if self.how == "zero":
            return actions, p * 0
        if self.how == "writes":
            o.state.history_items[0, 0] += 1
        if self.how == "random propensity":
            return actions, p * rng.uniform(0.9, 1.0, p.shape)
        if self.how == "eager":
            return np.maximum(actions, 0), np.maximum(p, 0.1)
        if self.how == "biased":
            best = np.argmax(o.actions.mask, axis=1)
            return np.where((rng.random(len(best)) < 0.2) & (actions >= 0), best, actions), p
        if self.how == "company":
            return actions, p * (1 if len(actions) > 1000 else 0.5)
        return actions, p


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("deaf to masks", "masks"),
        ("own luck", "same draw, same actions"),
        ("global luck", "same draw, same actions"),
        ("int32", "actions: actions are int32"),
        ("float32", "actions: propensities are float32"),
        ("shapes", "actions: shapes"),
        ("certain", "propensities are exact"),
        ("before masks", "propensities are exact"),
        ("zero", "propensity range"),
        ("writes", "observation untouched"),
        ("random propensity", "propensities are exact"),
        ("eager", "nothing allowed"),
        ("biased", "propensities are exact"),
        ("company", "rows are decided alone"),
    ],
)
def test_broken_policies_are_told_which_rule(how: str, rule: str) -> None:
    policy: Policy = Broken(how)
    with pytest.raises(AssertionError, match=f"^{rule}"):
        check_policy(policy)


def test_the_honest_one_passes() -> None:
    check_policy(Broken("not at all"))
