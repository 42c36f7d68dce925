"""The linear form from a log: when it is the default, what it may look at, and logs from which little can be learnt."""

import copy
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mdp_logs import event, make_log

from qurate.baselines.registry import random_policy
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.environments.worlds import references
from qurate.errors import UserError
from qurate.evaluation.rollouts import rollout
from qurate.events.readers import read_events
from qurate.experiments import demo
from qurate.experiments.policies import as_policy, present_recommender, rewards_of
from qurate.learning.fitted_q import Effect
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.replay.writers import store_from_log
from qurate.training import later_from_log
from qurate.training.later_from_log import RIDGES, LogPart, greedy
from qurate.training.train import train
from qurate.types import TEST, TRAIN, VALID

SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 6, "batch_size": 32, "steps": 60, "id_embedding": False}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A small shop's log with propensities."""
    out, engine = tmp_path_factory.mktemp("logged"), make_engine("shop", n_items=60)
    simulate(engine, present_recommender(engine, 0, 50), 200, 30, 0, out / "log" / "events.csv")
    return build_dataset(read_events(out / "log"), rewards=rewards_of(engine), episode="user", out=out / "dataset")


@pytest.fixture(scope="module")
def trained(dataset: Dataset) -> Model:
    """From that log; not to be changed."""
    return train(dataset, **SMALL)


def organic() -> Dataset:
    rows = [event(f"u{i // 20}", f"i{i % 7}", 1.7e9 + i * 60, "click" if i % 3 else "purchase") for i in range(800)]
    return build_dataset(make_log(rows), {"click": 1, "purchase": 5}, episode="session")  # type: ignore[arg-type]


def weights(model: Model) -> dict[str, torch.Tensor]:
    return dict(model.network.state_dict())


def same(a: Model, b: Model) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def with_rewards(dataset: Dataset, split: int, factor: float) -> Dataset:
    """The same log, but for the rewards of one split."""
    t = dataset.transitions
    reward = np.where((t.split[t.state] == split)[:, None], t.reward * np.float32(factor), t.reward)
    return replace(dataset, transitions=replace(t, reward=reward))


def test_terms_of_categories_are_trained_and_count_in_what_is_held_out(dataset: Dataset, trained: Model) -> None:
    now: Any = copy.deepcopy(trained.network.now)
    assert now.categories is not None and bool(now.categories.layers[2].weight.any()), "they begin at zero"
    store = store_from_log(
        dataset.arrays, dataset.transitions, dataset.weights, dataset.user_features, 0.9, 1e6, SMALL["window"], dataset.availability
    )
    index = np.arange(200)
    before = later_from_log.held_out_loss(now, store, index)
    with torch.no_grad():
        now.categories.layers[2].bias += 1
    assert abs(later_from_log.held_out_loss(now, store, index) - before) > 0.1


def test_it_is_the_default_where_probabilities_are_logged_and_nowhere_else(dataset: Dataset, trained: Model) -> None:
    assert dataset.kind == "logged"
    both = {"dqn": trained, "myopic": train(dataset, algorithm="myopic", **SMALL)}
    for algorithm, model in both.items():
        assert isinstance(model.network, LinearLaterNetwork) and model.settings.network.form == "linear_later"
        assert (model.settings.learning.n_step, model.settings.learning.gamma) == (4, 0.97 if algorithm == "dqn" else 0.0)
        assert bool(weights(model)["theta"].any()) is (algorithm == "dqn"), "myopic has no later"
    myopic, dqn = (model.network.now.state_dict() for model in both.values())
    assert all(torch.equal(value, dqn[name]) for name, value in myopic.items()), "both know the same of the next step"
    told = demo.without_later(both["dqn"])
    assert (told.algorithm, told.settings) == ("myopic", both["myopic"].settings)
    assert all(torch.equal(value, weights(told)[name]) for name, value in weights(both["myopic"]).items() if name != "share")
    assert bool(weights(trained)["theta"].any()), "the model that was given stays as it was"
    few = SMALL | {"steps": 2}
    assert train(dataset, gamma=0.5, **few).settings.learning.gamma == 0.5, "what is given stays"
    other = train(dataset, form="now_later", **few)
    assert isinstance(other.network, CatalogueNetwork) and other.settings.learning.gamma == 0.9
    assert isinstance(train(dataset, algorithm="double_dqn", **few).network, CatalogueNetwork)
    assert train(dataset, n_step=3, **few).settings.learning.n_step == 3
    assert isinstance(train(organic(), **few).network, CatalogueNetwork)


def test_the_test_split_is_never_looked_at_and_the_validation_split_is(dataset: Dataset, trained: Model) -> None:
    assert same(trained, train(with_rewards(dataset, TEST, 100.0), **SMALL))
    assert not same(trained, train(with_rewards(dataset, TRAIN, 0.5), **SMALL))
    other = train(with_rewards(dataset, VALID, 0.0), **SMALL)
    assert other.metrics["held_out"]["loss"] != trained.metrics["held_out"]["loss"]


def test_now_is_that_of_the_check_that_predicted_held_out_events_best(dataset: Dataset) -> None:
    """Long after the best check the training loss still falls; what is kept stays."""
    given = SMALL | {"algorithm": "myopic", "lr": 0.1, "ema": 0.0}
    short, long = (train(dataset, **given | {"steps": steps}) for steps in (150, 250))
    assert short.metrics["held_out"]["updates"] == long.metrics["held_out"]["updates"] < 150
    assert same(short, long)


def test_a_resumed_run_is_the_one_that_was_not_interrupted(dataset: Dataset, trained: Model, tmp_path: Path) -> None:
    whole = train(dataset, **SMALL | {"steps": 120})
    trained.save(tmp_path / "half")
    resumed = train(dataset, resume=tmp_path / "half", steps=120)
    assert same(whole, resumed) and whole.metrics["later"] == resumed.metrics["later"]


def test_few_held_out_rows_fall_back_with_a_note(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    t = dataset.transitions
    split = t.split.copy()
    split[np.flatnonzero(split == VALID)[3:]] = TEST
    with caplog.at_level(logging.WARNING):
        model = train(replace(dataset, transitions=replace(t, split=split)), **SMALL)
    assert "3 held-out decisions are too few" in caplog.text
    assert "held_out" not in model.metrics and model.metrics["later"]["ridge"] == 1_000.0


def test_no_item_features_are_no_obstacle(dataset: Dataset) -> None:
    bare = replace(dataset, item_features=np.zeros((len(dataset.item_features), 0), np.float32))
    model = train(bare, **SMALL)
    assert np.isfinite(weights(model)["theta"].numpy()).all()


def test_all_rewards_equal_or_a_single_item(dataset: Dataset) -> None:
    t = dataset.transitions
    nothing = replace(dataset, transitions=replace(t, reward=np.zeros_like(t.reward)))
    with pytest.raises(UserError, match="rewards from which something can be learnt"):
        train(nothing, **SMALL)
    always = np.zeros_like(t.reward)
    always[:, 0] = 1
    model = train(replace(dataset, transitions=replace(t, reward=always)), **SMALL)  # visits of different length differ in value
    assert np.isfinite(weights(model)["theta"].numpy()).all()
    one = replace(dataset, transitions=replace(t, action=np.ones_like(t.action)))
    assert np.isfinite(weights(train(one, **SMALL))["theta"].numpy()).all()


@pytest.mark.parametrize("algorithm", ["double_dqn", "nstep_dqn"])
def test_other_algorithms_do_not_have_it(dataset: Dataset, algorithm: str) -> None:
    with pytest.raises(UserError, match="dqn or myopic on a log of what was shown"):
        train(dataset, algorithm=algorithm, form="linear_later", **SMALL)


def test_organic_logs_do_not_have_it(dataset: Dataset) -> None:
    with pytest.raises(UserError, match="organic"):
        train(organic(), form="linear_later", **SMALL)


def test_it_sees_what_a_trap_costs(tmp_path: Path) -> None:
    """toy_clickbait, a log of random items: what is clicked most drives customers away, and no feature says so."""
    engine = make_engine("toy_clickbait")
    simulate(engine, random_policy(), 800, engine.max_steps, 0, tmp_path / "events.csv")
    data = build_dataset(read_events(tmp_path / "events.csv"), rewards=rewards_of(engine), episode="user", churn_after="1h")
    returns = {}
    for algorithm, gamma in (("dqn", 0.95), ("myopic", 0.0)):
        model = train(data, algorithm=algorithm, **SMALL | {"steps": 300, "window": 20, "gamma": gamma})
        returns[algorithm] = rollout(engine, as_policy(model, engine, algorithm), 1, 300).returns.mean()
    best = rollout(engine, references("toy_clickbait")["optimal"](engine), 1, 300, every_lane=True).returns.mean()
    assert returns["myopic"] < 0.5 * best and returns["dqn"] > 0.9 * best, (returns, best)


def test_where_nothing_is_open_the_future_is_worth_nothing() -> None:
    class Values:
        """Two successors, in the first of which nothing can be shown."""

        now: Any = property(lambda self: self)

        def best(self, open_actions: Any) -> torch.Tensor:
            return torch.tensor([0, 2])

        def features(self, best: torch.Tensor, now: None) -> torch.Tensor:
            return torch.ones(2, 3)

        def by_head(self, actions: torch.Tensor) -> torch.Tensor:
            return torch.ones(2, 1, 1)

    network = torch.nn.Module()
    network.register_buffer("theta", torch.zeros(3, 1))
    part: Any = LogPart(None, [Values()], [None], [None], None, None)  # type: ignore[arg-type,list-item]
    found = greedy(network, part, torch.ones(3, 1))  # type: ignore[arg-type]
    assert found.features.tolist() == [[0, 0, 0], [1, 1, 1]] and found.now.tolist() == [[0], [1]]


def test_a_penalty_with_which_it_diverges_gives_way_to_the_next(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, asked = later_from_log.fitted_q, list[float]()

    def diverges(data: Any, best: Any, ridge: float) -> Any:
        asked.append(ridge)
        fit = real(data, best, ridge)
        return fit._replace(change=float("nan")) if ridge < RIDGES[2] else fit

    monkeypatch.setattr(later_from_log, "fitted_q", diverges)
    with caplog.at_level(logging.WARNING):
        model = train(dataset, **SMALL)
    assert model.metrics["later"]["ridge"] >= RIDGES[2] and asked[:3] == list(RIDGES[:3])
    assert "diverged with the penalty 1000" in caplog.text
    monkeypatch.setattr(later_from_log, "fitted_q", lambda *given: real(*given)._replace(change=2.0))
    with pytest.raises(UserError, match="converges"):
        train(dataset, **SMALL)


def test_the_judge_fits_the_whole_iteration_to_the_rows_it_may_use(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that diverges says nothing of any item."""
    real, used = later_from_log.fitted_q, list[torch.Tensor]()

    def recorded(data: Any, best: Any, ridge: float) -> Any:
        used.append(data.counted)
        return real(data, best, ridge)

    def judge(data: Any, fit_to: Any, returns: torch.Tensor, customer: torch.Tensor, n_state: int) -> Effect:
        rows = customer % 2 == 0
        used.clear()
        assert fit_to(rows).any()
        assert torch.equal(used[0], torch.where(rows, data.counted, 0)) and bool(used[0].any())
        monkeypatch.setattr(later_from_log, "fitted_q", lambda *given: real(*given)._replace(change=float("nan")))
        assert not fit_to(rows).any()
        return Effect(0.0, 1.0)

    monkeypatch.setattr(later_from_log, "fitted_q", recorded)
    monkeypatch.setattr(later_from_log, "effect_of_items", judge)
    model = train(dataset, **SMALL)
    assert model.metrics["later"]["share"] == 0, "what the judge says counts"
    network = model.network
    assert isinstance(network, LinearLaterNetwork) and not network.get_buffer("theta")[network.n_state :].any()


def test_held_out_transitions_are_drawn_where_there_are_very_many(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones are those of a few customers."""
    monkeypatch.setattr(later_from_log, "MOST_HELD_OUT", 40)
    index = np.arange(1_000)
    checks = [later_from_log.Checks(SimpleNamespace(ema=torch.nn.Linear(1, 1)), None, index, 10, seed).index for seed in (0, 0, 1)]  # type: ignore[arg-type]
    assert len(checks[0]) == 40 and checks[0].max() > 500 and (checks[0] == checks[1]).all() and (checks[0] != checks[2]).any()
