"""Ways to explore online, and their table."""

from pathlib import Path

import exploration
import numpy as np
import pytest
import torch
from exploration import bootstrapped, exploring, measure, of_the_log, read, scores_by_fit, table

from qurate.baselines.registry import random_policy
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.events.readers import read_events
from qurate.experiments.policies import rewards_of
from qurate.learning import loops
from qurate.mdp.dataset import build_dataset
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.networks.values import to_tensors
from qurate.settings import from_flat
from qurate.training import later_online
from qurate.training.in_environment import fresh_model
from qurate.training.train import train


@pytest.fixture(scope="module")
def network() -> LinearLaterNetwork:
    engine = make_engine("shop", n_items=30, window=4)
    settings = from_flat({"form": "linear_later", "hidden": 4, "embedding_dim": 4, "window": 4, "id_embedding": False})
    network = fresh_model(engine, settings, "dqn", 0, "shop").network
    assert isinstance(network, LinearLaterNetwork)
    return network


def test_each_customer_is_shown_what_is_best_by_one_of_the_fits(network: LinearLaterNetwork) -> None:
    state = make_engine("shop", n_items=30, window=4).reset(0, 5).state
    rng = torch.Generator().manual_seed(0)
    fits = [torch.randn(len(network.get_buffer("theta")), generator=rng) for _ in range(2)]
    q = scores_by_fit(network, state, fits)
    for lane in range(5):
        network.get_buffer("theta").zero_()
        network.get_buffer("theta")[:, 0] = fits[lane % 2]
        alone = network.bind()(to_tensors(state)).all()[lane]
        assert torch.allclose(q[lane, 1:], alone[1:], atol=1e-4) and not torch.allclose(q[lane, 1:], q[lane - 1, 1:], atol=1e-2)
    network.get_buffer("theta").zero_()


def test_boltzmann_draws_in_proportion_and_what_is_not_the_best_counts_as_explored() -> None:
    before = loops.explore, loops.q_values, later_online.fit_later  # type: ignore[attr-defined]
    scores = np.tile(np.log(np.array([1.0, 3.0, 4.0], np.float32)), (20_000, 1))
    with exploring("boltzmann 1", [], 0) as given:
        position, explored = loops.explore(scores, np.ones(scores.shape, np.int8), np.zeros(len(scores)), np.random.default_rng(0), 1)
        assert given == {}
    assert np.bincount(position) / len(position) == pytest.approx([1 / 8, 3 / 8, 4 / 8], abs=0.02)
    assert (explored == (position != 2)).all()
    with exploring("epsilon 0.2", [], 0) as given:
        assert given == {"epsilon_start": 0.2, "epsilon_end": 0.2, "epsilon_spread": False}
    with pytest.raises(RuntimeError), exploring("thompson", [], 0) as given:
        assert given["epsilon_end"] == 0 and loops.q_values is not before[1]
        raise RuntimeError
    assert (loops.explore, loops.q_values, later_online.fit_later) == before  # type: ignore[attr-defined]


def test_fits_to_other_customers_differ_and_repeat(network: LinearLaterNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    own = exploration.fitted_q
    monkeypatch.setattr(exploration, "fitted_q", lambda data, *rest: (seen.append(data.counted), own(data, *rest))[1])
    engine = make_engine("shop", n_items=30, window=4)
    from qurate.training.in_environment import train_in_engine

    monkeypatch.setattr(later_online, "LEAST_DECISIONS", 100)
    stores: list[tuple[object, np.ndarray]] = []  # type: ignore[type-arg]
    fit = later_online.fit_later  # type: ignore[attr-defined]
    monkeypatch.setattr(
        later_online,
        "fit_later",
        lambda net, store, index, *rest, **how: (stores.append((store, index)), fit(net, store, index, *rest, **how))[1],
    )
    settings = {
        "form": "linear_later",
        "hidden": 4,
        "embedding_dim": 4,
        "window": 4,
        "id_embedding": False,
        "lanes": 8,
        "warm_up": 64,
        "batch_size": 16,
    }
    model = fresh_model(engine, from_flat(settings), "dqn", 0, "shop")
    train_in_engine(model, engine, 0, 400)
    store, index = stores[-1]
    fits = [bootstrapped(network, store, index, 1_000.0, seed) for seed in (0, 0, 1)]  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(fits[0], fits[1])) and not torch.equal(fits[0][0], fits[2][0])
    assert len(fits[0]) == exploration.MEMBERS and not torch.equal(fits[0][0], fits[0][1])
    assert {float(n) for n in torch.unique(seen[0])} >= {0.0, 1.0, 2.0}, "whole customers are drawn, some more than once"


def test_the_items_part_of_an_ensemble_of_the_log_is_shrunk_as_that_of_the_model(tmp_path: Path) -> None:
    engine = make_engine("shop", n_items=30, window=4)
    simulate(engine, random_policy(), 120, 10, 0, tmp_path / "log" / "events.csv")
    data = build_dataset(read_events(tmp_path / "log"), rewards=rewards_of(engine), episode="user")
    model = train(data, steps=5, hidden=4, embedding_dim=4, window=4, batch_size=16, id_embedding=False)
    found = []
    for share in (1.0, 0.5):
        model.metrics["later"]["share"] = share
        found.append(of_the_log(model, data, 0))
    n = model.network.n_state
    for whole, half in zip(*found, strict=True):
        assert torch.equal(whole[:n], half[:n]) and torch.allclose(whole[n:] / 2, half[n:]) and bool(whole[n:].any())


def test_the_table_pairs_seeds_and_says_when_a_goal_was_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means = {"epsilon": {1: (49.0, 56.0), 2: (51.0, 54.0)}, "thompson": {1: (40.0, 58.0), 2: (30.0, 56.0)}}
    asked: list[tuple[str, int]] = []

    def curve(row: str, seed: int, decisions: int, every: int) -> list[tuple[int, float]]:
        asked.append((row, seed))
        return list(zip((every, decisions), means[row][seed]))

    monkeypatch.setattr(exploration, "curve", curve)
    for _ in range(2):
        measure(["epsilon", "thompson"], [1, 2], 20_000, 10_000, tmp_path / "out.csv")
    assert len(asked) == 4, "nothing is measured twice"
    lines = table(read(tmp_path / "out.csv")).splitlines()
    assert lines[0].endswith("| after 10,000 | after 20,000 | minus epsilon, at the end | decisions until 50 | decisions until 55 |")
    assert lines[2].endswith("|  | 15,000 (2 of 2) | 20,000 (1 of 2) |")
    assert (
        lines[3].startswith("| thompson | 35.0 [") and "| +2.0 [" in lines[3] and lines[3].endswith("| 20,000 (2 of 2) | 20,000 (2 of 2) |")
    )
