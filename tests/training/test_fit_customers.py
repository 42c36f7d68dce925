"""Customers fitted to a log whose customers are known: what they do, when they leave and return, and logs that are too small."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.hand_customers import EVENTS, LOGITS, hand_customers

from qurate.baselines.registry import random_policy
from qurate.cli import main
from qurate.environments.customer_response import Response, Seen
from qurate.environments.engine import BatchedEngine
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.fitted import MEMORY, FittedCustomers, chance
from qurate.errors import Code, UserError
from qurate.events.readers import read_events
from qurate.experiments.compare import compare
from qurate.experiments.customers import against_truth, customers, ready, validity
from qurate.mdp.dataset import build_dataset
from qurate.mdp.states import derive_context
from qurate.mdp.storage import Dataset
from qurate.networks.build import build_network
from qurate.networks.event_network import EventNetwork
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.networks.values import to_tensors
from qurate.settings import Settings
from qurate.settings import replace as with_leaves
from qurate.training import fit_customers as fitting
from qurate.training.customer_export import export_arrays, response_of_rows
from qurate.training.customer_visits import logistic, visits_of
from qurate.training.fit_customers import LEAVES, Fit, fit_customers, own_events
from qurate.types import State


def log_of(folder: Path, users: int, seed: int = 0) -> Dataset:
    """A log of the hand-made customers to whom items were shown at random."""
    leave = hand_customers().arrays["leave"].copy()
    leave[0], leave[1] = -2.2, 1.0
    engine = BatchedEngine(FittedCustomers(hand_customers(leave=leave)), max_steps=200)
    simulate(engine, random_policy(), users, 200, seed, folder / "events.parquet")
    rewards = {"click": 1, "cart": 2, "like": {"weight": 0.5, "per": "value"}}
    return build_dataset(read_events(folder / "events.parquet"), rewards=rewards, episode="user")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("hand")
    return log_of(folder, 800).write(folder / "dataset")


@pytest.fixture(scope="module")
def fit(dataset: Dataset) -> Fit:
    return fit_customers(dataset)


def test_what_was_fitted_is_what_the_log_was_written_by(fit: Fit) -> None:
    facts, t = fit.customers.facts, fit.data.transitions
    assert facts.events == EVENTS
    response = Response(fit.customers.arrays)
    rows = np.flatnonzero(t.split[t.state] > 0)
    logits, sizes = response_of_rows(response, fit.data, rows, facts.window)
    found, truth = response.marginals(logits), Response(hand_customers().arrays).marginals(LOGITS[1:])
    for item, name in enumerate("abcd"):
        here = t.action[rows] == facts.item_ids.index(name) + 1
        assert np.abs(found[here].mean(0) - truth[item]).max() < 0.05, (name, found[here].mean(0).round(2), truth[item].round(2))
    assert abs(response.amounts(sizes)[:, 2].mean() - 2.0) < 0.1


def test_likes_go_with_clicks_as_in_the_log(fit: Fit) -> None:
    pair, events = fit.customers.arrays["pair"], fit.customers.facts.events
    like, click = events.index("like"), events.index("click")
    assert abs(max(pair[like, click], pair[click, like]) - 1.5) < 0.4
    assert not pair[events.index("cart")].any() or abs(pair[events.index("cart"), like]) < 0.4


def test_leaving_returning_and_waiting_are_those_of_the_log(fit: Fit) -> None:
    arrays, x = fit.customers.arrays, fit.visits.x
    click = x[:, 1 + fit.customers.facts.events.index("click")] > 0
    for here, truth in ((click, -1.2), (~click, -2.2)):
        assert abs(chance(x[here], arrays["leave"]).mean() - 1 / (1 + np.exp(-truth))) < 0.02
    assert abs(fit.customers.facts.figures["return"]["rate"] - 0.97 / (1 + np.exp(-0.5))) < 0.05, "3 % of the pauses are longer"
    assert np.allclose(arrays["dwell"][:, [0, -1]], [[10, 30], [40, 60]], atol=1)
    assert arrays["pause"].min() >= 3_600 and arrays["pause"].max() <= 10_800
    assert fit.customers.facts.returns


def test_the_people_and_values_are_those_of_the_log(fit: Fit) -> None:
    assert set(np.unique(fit.customers.arrays["people_visible"]).round(3)) == {20.0, 40.0}
    assert fit.customers.arrays["log_value"][EVENTS.index("cart")] == 7
    assert fit.customers.arrays["limits"][EVENTS.index("like")] == pytest.approx([1.2, 2.9], abs=0.02)


def test_the_arrays_answer_as_the_network_does() -> None:
    """Every path of the network: features, ids, views, likeness, repeats, visits, values; float32 against float64."""
    rng, n, length = np.random.default_rng(0), 30, 20
    features = np.vstack([np.zeros((1, 6)), rng.normal(size=(n, 6))]).astype(np.float32)
    built = build_network(features, with_leaves(Settings(), **LEAVES), n_types=3, user_dim=2, n_components=2, behaviour=False, seed=0)
    assert isinstance(built, LinearLaterNetwork)
    network: EventNetwork = built.now.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter)))
    items = rng.integers(1, n + 1, (50, length))
    types = rng.integers(1, 4, (50, length))
    items[:, :4] = types[:, :4] = 0
    gaps = np.where(types > 0, rng.choice([0.0, 30.0, 4_000.0], (50, length), p=[0.5, 0.4, 0.1]), 0).astype(np.float32)
    values = (rng.normal(size=(50, length)) * (types == 2)).astype(np.float32)
    user, shown = rng.normal(size=(50, 2)).astype(np.float32), rng.integers(1, n + 1, (50, 3))
    shown[:, 0] = items[:, -1]  # a repeat
    arrays = export_arrays(network, np.ones(n + 1, np.int64))
    fresh = {"order": np.arange(2), "slope": np.ones(2), "shift": np.zeros(2), "pair": np.zeros((2, 2)), "told": np.zeros((2, 2))}
    response = Response(arrays | fresh)
    heads = response.heads(Seen(items, types, gaps, values, user))
    state = State(items, types, gaps, values, user, derive_context(types, gaps))
    with torch.no_grad():
        theirs = network.bind()(to_tensors(state)).raw.by_head(torch.from_numpy(shown)).numpy()
    ours = np.concatenate(response.raw(heads, shown), axis=2)
    assert np.abs(theirs).max() > 0.5 and np.allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())
    of_all = np.concatenate(response.raw_of_all(heads), axis=2)
    assert np.allclose(np.take_along_axis(of_all, shown[:, :, None] - 1, axis=1), ours)


def test_the_network_of_customers_has_no_terms_that_the_arrays_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items of a shop have categories; what a world reads as arrays knows nothing of them."""
    simulate(make_engine("shop"), random_policy(), 150, 30, 0, tmp_path / "log" / "events.csv")
    data = build_dataset(read_events(tmp_path / "log"), rewards={"click": 1, "cart": 2, "purchase": 5}, episode="user")
    seen: list[EventNetwork] = []

    def stop(network: EventNetwork, shown: object) -> None:
        seen.append(network)
        raise InterruptedError

    monkeypatch.setattr(fitting, "export_arrays", stop)
    with pytest.raises(InterruptedError):
        fit_customers(data, budget=0.5)
    assert seen[0].categories is None


def test_an_item_never_shown_has_no_vector_of_its_own() -> None:
    features = np.vstack([np.zeros((1, 2)), np.ones((3, 2))]).astype(np.float32)
    built = build_network(features, with_leaves(Settings(), **LEAVES), n_types=1, user_dim=0, n_components=1, behaviour=False, seed=0)
    assert isinstance(built, LinearLaterNetwork)
    vectors = export_arrays(built.now, np.array([0, 5, 0, 0]))["vectors"]
    assert np.allclose(vectors[2], vectors[3]) and not np.allclose(vectors[1], vectors[2])


def test_logistic_regression_has_no_gradient_left_and_finds_the_weights() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(20_000), rng.normal(size=(20_000, 2)) * [1, 5] + 3, np.zeros(20_000)])
    truth = np.array([0.5, -1.0, 0.2, 0.0])
    y = (rng.random(20_000) < 1 / (1 + np.exp(-(x @ truth)))).astype(float)
    w = logistic(x, y)
    assert np.allclose(w[:3], truth[:3], atol=0.1) and w[3] == 0
    assert np.abs(x[:, :1].T @ (y - chance(x, w))).max() < 1e-3, "the mean is met exactly: the intercept has no penalty"


def test_labels_of_visits_say_what_was_known(dataset: Dataset) -> None:
    data, events = own_events(dataset)
    visits = visits_of(data, np.zeros((len(data.transitions.user), len(events)), bool), np.zeros((5, 2)))
    t = data.transitions
    goes_on = np.append((data.state_visit[1:] == data.state_visit[:-1]), False)
    cut = t.clock[t.split == 1].min()
    train = t.split == 0
    assert (visits.ended[train & goes_on & (np.append(t.clock[1:], 0) < cut)] == 0).all()
    known = train & (visits.returned >= 0)
    pauses = visits.wait[train & (visits.ended == 1) & np.isfinite(visits.wait)]
    horizon = np.quantile(pauses, 0.97)
    assert ((cut - t.clock[known]) / 1e6 > horizon - 1).all(), "both answers are known only after the horizon"
    assert (visits.wait[known & (visits.returned == 1)] <= horizon).all()
    assert not np.isfinite(visits.wait[known & (visits.returned == 0)]).any() or (
        visits.wait[known & (visits.returned == 0) & np.isfinite(visits.wait)] > horizon).all()  # fmt: skip
    first = np.append(True, t.user[1:] != t.user[:-1])
    assert np.allclose(visits.x[first][:, -3], np.log(2)), "the first decision in all"


def test_whether_a_customer_returned_is_not_known_within_the_horizon(dataset: Dataset) -> None:
    """The training split ends 5,000 seconds after a decision that ended a visit: less than the longest pauses."""
    data, events = own_events(dataset)
    t = data.transitions
    nothing = np.zeros((len(t.user), len(events)), bool)
    ends = np.flatnonzero(visits_of(data, nothing, np.zeros((5, 2))).ended == 1)
    cut = t.clock[ends[len(ends) // 2]] + 5_000_000_000
    split = np.where(t.clock < cut, 0, 1).astype(t.split.dtype)
    visits = visits_of(replace(data, transitions=replace(t, split=split)), nothing, np.zeros((5, 2)))
    over = (split == 0) & (visits.ended == 1)
    recent = over & (t.clock > t.clock[split == 1].min() - 6_000_000_000)
    assert recent.any() and (visits.returned[recent] == -1).all() and (visits.returned[over & ~recent] >= 0).any()


def test_the_memory_of_a_customer_fades_with_each_decision(dataset: Dataset) -> None:
    """By the recursion, one decision after the other."""
    data, events = own_events(dataset)
    user, width = data.transitions.user, len(events)
    happened = np.random.default_rng(0).random((len(user), width)) < 0.5
    x = visits_of(data, happened, np.zeros((5, 2))).x
    memory = np.zeros(width)
    for row in range(300):
        before = memory if row and user[row] == user[row - 1] else np.zeros(width)
        memory = (1 - MEMORY) * happened[row] + MEMORY * before
        assert np.allclose(x[row, 1 + width : 1 + 2 * width], memory)


def test_the_report_finds_customers_of_this_kind_calibrated(dataset: Dataset, fit: Fit) -> None:
    report = validity(dataset, fit)
    for name in EVENTS:
        entry = report["events"][name]
        assert entry["calibration"]["error"] < 0.06 and entry["gain"]["mean"] > -0.01, name
    assert report["events"]["click"]["log_likelihood"]["customers"] > report["events"]["click"]["log_likelihood"]["constant"]
    assert report["ranking"]["rank_correlation"] > 0.7 and len(report["ranking"]["policies"]) >= 5
    assert report["amounts"]["like"]["mean"] > 0


def test_a_log_that_is_too_small_says_how_many_decisions_are_needed(tmp_path: Path) -> None:
    small = log_of(tmp_path, 20)
    with pytest.raises(UserError, match=r"a log of at least 2,000 decisions \(200 held out\) to learn customers from, got \d+") as caught:
        customers(small, tmp_path / "people")
    assert caught.value.code is Code.TOO_FEW_ROWS and not (tmp_path / "people").exists()


def test_too_many_rewarded_types_are_refused(dataset: Dataset) -> None:
    many = replace(dataset, components=[f"type{i}" for i in range(10)])
    with pytest.raises(UserError, match="at most 9 rewarded event types, got 10"):
        own_events(many)


def test_a_dataset_is_fitted_once_and_its_customers_kept_beside_it(dataset: Dataset, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dataset.path is not None
    fits = []
    monkeypatch.setattr("qurate.experiments.customers.fit_customers", lambda data, **options: fits.append(data) or fit)
    first = ready(dataset.path)
    assert first.name == "dataset.customers" and len(fits) == 1
    assert ready(dataset.path) == first and ready(first) == first and len(fits) == 1


@pytest.mark.slow
def test_the_commands(
    dataset: Dataset, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`customers` prints one JSON object or a table; the worlds of other commands take a dataset in place of customers."""
    monkeypatch.setattr("qurate.experiments.customers.fit_customers", lambda data, **options: fit)
    monkeypatch.setattr("qurate.experiments.compare.compare", partial(compare, customers=200))
    people, data = str(tmp_path / "people"), str(dataset.path)
    assert main(["--quiet", "customers", data, "-o", people, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["customers"] == people and report["events"]["click"]["calibration"]["error"] < 0.06
    assert json.loads((tmp_path / "people" / "validity.json").read_text())["decisions"] == report["decisions"]
    assert main(["--quiet", "customers", data, "-o", people]) == 0  # its own directory may be replaced
    assert "rank correlation" in capsys.readouterr().out
    for source in (people, data):
        log = tmp_path / "log" / "events.parquet"
        assert main(["--quiet", "simulate", "fitted", "--from", source, "-o", str(log), "--users", "20", "--steps", "5"]) == 0
        assert read_events(log).events.select("user_id").collect().height > 0
    assert main(["--quiet", "compare", "random", "popularity", "--env", f"fitted,from={people}", "--seeds", "1", "--json"]) == 0
    shown = [row["name"] for row in json.loads(capsys.readouterr().out.splitlines()[-1])["policies"]]
    assert shown == ["random", "popularity", "true_myopic"]
    assert main(["customers", data, "-o", data]) == 2 and Dataset.read(data).sha256 == dataset.sha256


@pytest.mark.slow
def test_against_the_truth_policies_meet_both_kinds_of_customers(dataset: Dataset, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.experiments.customers.ROLLOUT_CUSTOMERS", 200)
    monkeypatch.setattr("qurate.experiments.customers.make_engine", lambda name: BatchedEngine(FittedCustomers(fit.customers)))
    found = against_truth(dataset, fit.customers, "themselves")
    assert found["rank_correlation"] == pytest.approx(1) and len(found["policies"]) >= 5
    assert all(row["world"] == row["customers"] for row in found["policies"]), "the same customers and the same luck"
