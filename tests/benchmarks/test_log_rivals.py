"""An ensemble's score and weighted returns against values by hand."""

import sys
from pathlib import Path
from typing import Any, cast

import log_rivals
import numpy as np
import pytest
import torch
from log_rivals import (
    CautiousNetwork,
    Decisions,
    Step,
    among_customers,
    decisions_of,
    ensemble,
    expected_item,
    later_alone,
    network_of,
    softened,
    store_of,
    traced,
    traces,
)

from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.events.readers import read_events
from qurate.experiments.policies import present_recommender, rewards_of
from qurate.learning.fitted_q import Greedy, fitted_q
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model
from qurate.models.network_ranker import NetworkRanker
from qurate.networks.values import to_tensors
from qurate.replay.samplers import LogSampler
from qurate.training.later_from_log import greedy, log_part
from qurate.training.train import train
from qurate.types import TRAIN

sys.path.insert(0, str(Path(__file__).parents[1] / "networks"))
from test_linear_later import ITEMS, network, states

SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 6, "batch_size": 32, "steps": 60, "id_embedding": False}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A small shop's log with propensities."""
    out, engine = tmp_path_factory.mktemp("logged"), make_engine("shop", n_items=60)
    simulate(engine, present_recommender(engine, 0, 50), 200, 30, 0, out / "log" / "events.csv")
    return build_dataset(read_events(out / "log"), rewards=rewards_of(engine), episode="user", churn_after="7d", out=out / "dataset")


@pytest.fixture(scope="module")
def folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With dqn's model of that log."""
    out = tmp_path_factory.mktemp("kept")
    train(dataset, **SMALL).save(out / "model")
    return out


def line_of_three(propensity: float = 0.5) -> Decisions:
    """Decisions 0, 1, 2 of one customer, after which everything ends; what was shown has the features 1, 2, 3 (D = 1)."""
    double = torch.float64
    return Decisions(
        torch.tensor([[1.0], [2.0], [3.0]], dtype=double), torch.tensor([0.1, 0.2, 0.3], dtype=double),
        torch.tensor([10.0, 20.0, 30.0], dtype=double), torch.tensor([0.9, 0.8, 0.0], dtype=double),
        torch.tensor([1, 2, -1]), torch.full((3,), propensity, dtype=double), torch.tensor([1, 1, 1]), [],
    )  # fmt: skip


def values(chance: float) -> Step:
    """V of the three: features 4, 5, 6 and now 1, 2, 3."""
    expected = Greedy(torch.tensor([[4.0], [5.0], [6.0]]).double(), torch.tensor([[1.0], [2.0], [3.0]]).double())
    return Step(expected, torch.full((3,), chance).double())


def test_one_step_is_the_value_of_the_learned_policy() -> None:
    worth = traced(line_of_three(), values(0.25), 1, 1.0)
    assert worth.now[:, 0].tolist() == [1, 2, 3] and worth.features[:, 0].tolist() == [4, 5, 6]


@pytest.mark.parametrize("chance, most, c", [(0.25, 1.0, 0.5), (0.9, 1.0, 1.0), (0.9, 10.0, 1.8), (0.0, 1.0, 0.0)])
def test_two_and_three_steps_by_hand(chance: float, most: float, c: float) -> None:
    """G_1(s) = V(s) + c (r + discount V(s') - Q(s, a)), and so on."""
    two = traced(line_of_three(), values(chance), 2, most)
    assert two.now[:, 0].tolist() == pytest.approx([1 + c * (10 + 0.9 * 2 - 0.1), 2 + c * (20 + 0.8 * 3 - 0.2), 3 + c * (30 - 0.3)])
    assert two.features[:, 0].tolist() == pytest.approx([4 + c * (0.9 * 5 - 1), 5 + c * (0.8 * 6 - 2), 6 + c * (0 - 3)])
    three = traced(line_of_three(), values(chance), 3, most)
    assert float(three.now[0]) == pytest.approx(1 + c * (10 + 0.9 * (2 + c * (20 + 0.8 * 3 - 0.2)) - 0.1))
    assert float(three.features[0]) == pytest.approx(4 + c * (0.9 * (5 + c * (0.8 * 6 - 2)) - 1))


def test_nothing_is_taken_from_a_decision_whose_successor_was_never_seen() -> None:
    of = line_of_three()._replace(following=torch.tensor([1, -1, -1]))
    worth = traced(of, values(0.5), 4, 1.0)
    assert float(worth.now[1]) == 2 and float(worth.features[1]) == 5
    assert float(worth.now[2]) == 3 + 30 - 0.3, "where everything ended the reward counts"


def test_the_expected_item_is_the_mean_over_the_catalogue() -> None:
    made = network(spread=0.4)
    of = made.bind()(to_tensors(states(np.random.default_rng(2), 7)))
    share = torch.nn.functional.pad(torch.rand((7, ITEMS), generator=torch.Generator().manual_seed(3)), (1, 0))
    each = made.item_features(of.summary, torch.arange(ITEMS + 1).expand(7, -1), of.now_all)
    assert torch.allclose(expected_item(made, of, share), (share[:, :, None] * each).sum(1), atol=1e-4)


def test_the_score_of_an_ensemble_is_the_mean_less_kappa_standard_deviations_of_the_items_part() -> None:
    made, generator = network(), torch.Generator().manual_seed(4)
    thetas = torch.randn((3, made.n_state + made.n_item), generator=generator)
    s = to_tensors(states(np.random.default_rng(2), 5))
    of, everything = made.bind()(s), torch.arange(ITEMS + 1).expand(5, -1)
    items = made.item_features(of.summary, everything, of.now_all)
    own = torch.stack([items @ theta[made.n_state :] for theta in thetas])
    state = torch.stack([of.summary.state @ theta[: made.n_state] for theta in thetas])
    wanted = of.now_all + (own + state[:, :, None]).mean(0) - 0.7 * own.std(0)
    got = CautiousNetwork(made, thetas, 0.7).bind()(s)
    assert torch.allclose(got.all()[:, 1:], wanted[:, 1:], atol=1e-3)
    assert torch.allclose(got.of(everything[:, 3:5]), wanted[:, 3:5], atol=1e-3)


def test_the_softened_policy_is_in_proportion_to_exp_q(dataset: Dataset, folder: Path) -> None:
    model = log_rivals.default_model(dataset, 0, folder)
    made = network_of(model)
    of = decisions_of(made, store_of(dataset, model, 0.9), torch.tensor(dataset.transitions.propensity))
    theta = made.get_buffer("theta").sum(1, keepdim=True).double()
    step = softened(made, of, theta, 0.5)
    q = torch.cat([one.all()[:, 1:] for one in of.values]).double()
    share = torch.softmax(q / 0.5, 1)
    assert torch.allclose(step.chance, share.gather(1, of.action[:, None] - 1)[:, 0], atol=1e-5)
    assert torch.allclose(step.expected.now[:, 0] + (step.expected.features @ theta)[:, 0], (share * q).sum(1), atol=1e-3)
    shown = q.gather(1, of.action[:, None] - 1)[:, 0]
    assert torch.allclose(of.now + (of.features @ theta)[:, 0], shown, atol=1e-3)


def test_a_sharp_policy_and_one_step_are_fitted_q_iteration(dataset: Dataset, folder: Path) -> None:
    model = log_rivals.default_model(dataset, 0, folder)
    got = network_of(traces(dataset, 0, {"gamma": "0.9", "n_step": "1", "temperature": "1e-6", "most": "1"}, folder)).get_buffer("theta")
    made, store = network_of(model), store_of(dataset, model, 0.9)
    part = log_part(made, store, LogSampler(dataset.transitions, TRAIN).index, 1)
    wanted = fitted_q(part.data, lambda theta: greedy(made, part, theta), model.metrics["later"]["ridge"]).theta.sum(1)
    wanted[made.n_state :] *= model.metrics["later"]["share"]
    assert torch.allclose(part.data.features @ got.sum(1).double(), part.data.features @ wanted, atol=0.02)


def test_later_alone_is_the_fit_of_the_default_model(dataset: Dataset, folder: Path) -> None:
    """With the same gamma and n_step, and so with the penalty and the share that were found for them."""
    model = log_rivals.default_model(dataset, 0, folder)
    assert later_alone(dataset, 0, {}, folder).version == model.version
    given = {"gamma": str(model.settings.learning.gamma), "n_step": str(model.settings.learning.n_step)}
    got = network_of(later_alone(dataset, 0, given, folder)).get_buffer("theta")
    assert torch.allclose(got, network_of(model).get_buffer("theta"), atol=1e-4)


def test_members_of_an_ensemble_differ_and_their_mean_is_the_fit(dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of the items' part is dqn's share; the state's part stays."""
    model, made = log_rivals.default_model(dataset, 0, folder), {}
    for share in (1.0, 0.5):
        kept = model.with_provenance(metrics=model.metrics | {"later": model.metrics["later"] | {"share": share}})
        monkeypatch.setattr(log_rivals, "default_model", lambda *given, kept=kept: kept)
        found = ensemble(dataset, 0, {"kappa": "0.3", "n_step": "2"}, folder)
        made[share] = cast(CautiousNetwork, cast(NetworkRanker, found.ranker).network)
    one, n = made[1.0], made[1.0].inner.n_state
    assert one.thetas.shape[0] == log_rivals.MEMBERS and one.kappa == 0.3 and bool((one.thetas[:, n:].std(0) > 0).any())
    whole, half = (of.inner.get_buffer("theta").sum(1) for of in made.values())
    assert torch.allclose(whole[n:], one.thetas.mean(0)[n:], atol=1e-6) and torch.allclose(half[n:], whole[n:] / 2, atol=1e-6)
    assert torch.equal(half[:n], whole[:n]) and bool(whole[:n].any())


def test_the_model_of_a_log_is_trained_where_it_is_first_asked_for(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_rivals.demo, "SETTINGS", {**SMALL, "gamma": 0.9})
    monkeypatch.setattr(log_rivals, "_known", lambda settings: settings)
    for _ in range(2):
        assert later_alone(dataset, 0, {"gamma": "0.8"}, tmp_path).metrics["steps"] == 60
        monkeypatch.setattr(log_rivals, "train", None)  # a second time it is read


@pytest.mark.parametrize("start", ["log", "nothing"])
def test_among_customers_of_the_log(start: str, dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dqn meets the customers, never the world; its model of the log is where it begins, where that is asked for."""
    calls: list[dict[str, Any]] = []

    def trained(**given: Any) -> Model:
        calls.append(given)
        return log_rivals.default_model(dataset, 0, folder)

    (folder / "customers").mkdir(exist_ok=True)
    monkeypatch.setattr(log_rivals, "train", trained)
    among_customers(dataset, 0, {"start": start, "decisions": "5000", "lr": "0.003"}, folder)
    (call,) = calls
    assert call["env"] == f"fitted,from={folder / 'customers'}" and call["steps"] == 5000 and call["lr"] == "0.003"
    assert (call["start"] is not None) == (start == "log") and ("hidden" in call) == (start == "nothing")
