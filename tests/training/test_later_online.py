"""The linear form online, and a trained model that goes on learning in a world."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from qurate.algorithms.event_models import event_models
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.environments.worlds import references
from qurate.errors import UserError
from qurate.evaluation.rollouts import rollout
from qurate.events.readers import read_events
from qurate.experiments.policies import as_policy, present_recommender, rewards_of
from qurate.learning import fitted_q
from qurate.learning.learner import Learner
from qurate.learning.loops import Progress
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.replay.writers import OnlineWriter
from qurate.training import later_online
from qurate.training.train import train
from qurate.types import Availability

SHOP = "shop,n_items=60"
SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 6, "batch_size": 32, "id_embedding": False, "n_step": 4}
ONLINE: dict[str, Any] = SMALL | {"lanes": 16, "warm_up": 64, "update_every": 16, "form": "linear_later"}


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits begin after a few hundred decisions."""
    monkeypatch.setattr(later_online, "LEAST_DECISIONS", 200)
    monkeypatch.setattr(later_online, "MOST_DECISIONS", 400)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A small shop's log with propensities."""
    out, engine = tmp_path_factory.mktemp("logged"), make_engine("shop", n_items=60)
    simulate(engine, present_recommender(engine, 0, 50), 200, 30, 0, out / "log" / "events.csv")
    return build_dataset(read_events(out / "log"), rewards=rewards_of(engine), episode="user", out=out / "dataset")


@pytest.fixture(scope="module")
def from_log(dataset: Dataset) -> Model:
    with pytest.MonkeyPatch.context() as patch:  # so small a log bears nothing out; the items' part stands all the same
        patch.setattr(fitted_q, "NOTHING", -1e9)
        patch.setattr(fitted_q, "CERTAIN", -1e8)
        return train(dataset, steps=60, **SMALL)


def weights(model: Model) -> dict[str, torch.Tensor]:
    return dict(model.network.state_dict())


def same(a: Model, b: Model) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def test_a_new_model_counts_events_and_then_fits_later() -> None:
    model = train(env=SHOP, steps=640, **ONLINE)
    assert isinstance(model.network, LinearLaterNetwork)
    assert bool(weights(model)["now.amount"].any()) and bool(weights(model)["theta"].any())
    assert model.metrics["later"]["rows"] > 200
    few = train(env=SHOP, steps=160, **ONLINE)
    assert not bool(weights(few)["theta"].any()) and "later" not in few.metrics, "too little to fit anything to"


def test_myopic_fits_no_later() -> None:
    model = train(env=SHOP, algorithm="myopic", steps=640, **ONLINE)
    assert not bool(weights(model)["theta"].any()) and bool(weights(model)["now.amount"].any())


def test_what_acts_is_the_network_with_its_later(from_log: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the event models alone, which the learner trains."""
    seen: list[Any] = []
    own = later_online.OnlineLater.watch

    def watch(self: later_online.OnlineLater, loop: Any, done: int) -> Any:
        seen.append(self)
        return own(self, loop, done)

    monkeypatch.setattr(later_online.OnlineLater, "watch", watch)
    asked: list[Any] = []
    from qurate.learning import loops

    values = loops.q_values
    monkeypatch.setattr(loops, "q_values", lambda network, *rest: (asked.append(network), values(network, *rest))[1])
    train(env=SHOP, start=from_log, steps=32, lanes=16, warm_up=64)
    assert len(asked) == 2 and all(network is seen[0].acting for network in asked)
    assert seen[0].acting.now is seen[0].learner.ema


def test_a_resumed_run_is_the_one_that_was_not_interrupted(tmp_path: Path) -> None:
    whole = train(env=SHOP, steps=960, **ONLINE)
    train(env=SHOP, steps=480, **ONLINE).save(tmp_path / "half")
    resumed = train(resume=tmp_path / "half", steps=960)
    assert same(whole, resumed) and whole.metrics["later"] == resumed.metrics["later"]


def test_a_model_of_a_log_keeps_what_it_learned_until_there_is_enough(from_log: Model, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = train(env=SHOP, start=from_log, steps=320, lanes=16, warm_up=64)
    assert "as in the model; it explores with epsilon 0.1, falling to 0.05" in caplog.text
    assert torch.equal(weights(model)["theta"], weights(from_log)["theta"])
    assert torch.equal(weights(model)["now.chain"], weights(from_log)["now.chain"])
    assert (model.environment, model.kind, model.window) == (SHOP, "environment", 6)
    assert model.settings.network == from_log.settings.network and model.weights.tolist() == from_log.weights.tolist()
    assert (model.settings.learning.n_step, model.settings.learning.gamma) == (4, 0.97)
    further = train(env=SHOP, start=from_log, steps=640, lanes=16, warm_up=64)
    assert not torch.equal(weights(further)["theta"], weights(from_log)["theta"])


@pytest.mark.parametrize(("logged", "first"), [(None, 400), (100, 200), (600, 300), (100_000, 400)])
def test_the_more_a_log_has_taught_the_later_it_is_replaced(from_log: Model, logged: int | None, first: int) -> None:
    network: Any = from_log.network
    learner = Learner(copy.deepcopy(network.now), event_models, from_log.settings.learning)
    writer = OnlineWriter(4, 400, 6, from_log.weights, Availability.always(60), from_log.user_dim, 0.9, 1e6)
    later = later_online.OnlineLater(network, learner, writer, from_log.settings, 0, logged)
    assert (later.next_fit, later.least_decisions) == (first, first)
    network = copy.deepcopy(network)
    network.get_buffer("theta")[network.n_state :] = 0
    fresh = later_online.OnlineLater(network, learner, writer, from_log.settings, 0, logged)
    assert (fresh.next_fit, fresh.least_decisions) == (from_log.settings.replay.warm_up, 200), "no effects of items yet"


def test_the_rows_of_the_log_are_those_of_its_fit(from_log: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int | None] = []
    own = later_online.OnlineLater.__init__
    monkeypatch.setattr(later_online.OnlineLater, "__init__", lambda self, *given: (seen.append(given[5]), own(self, *given))[1])
    train(env=SHOP, start=from_log, steps=32, lanes=16, warm_up=64)
    train(env=SHOP, steps=32, **ONLINE)
    assert seen == [from_log.metrics["later"]["rows"], None] and seen[0]


def test_a_log_that_taught_nothing_of_items_is_fitted_as_early_as_none(dataset: Dataset) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitted_q, "NOTHING", 1e9)
        patch.setattr(fitted_q, "CERTAIN", 2e9)
        begun = train(dataset, steps=60, **SMALL)
    assert begun.metrics["later"]["share"] == 0
    model = train(env=SHOP, start=begun, steps=320, lanes=16, warm_up=64)
    assert not torch.equal(weights(model)["theta"], weights(begun)["theta"])


@pytest.mark.parametrize("half", [320, 400], ids=["between two fits", "where one is due"])
def test_the_run_from_a_model_is_saved_and_goes_on(from_log: Model, half: int, tmp_path: Path) -> None:
    whole = train(env=SHOP, start=from_log, steps=640, lanes=16, warm_up=64)
    train(env=SHOP, start=from_log, steps=half, lanes=16, warm_up=64).save(tmp_path / "half")
    assert same(whole, train(resume=tmp_path / "half", steps=640))
    assert load(tmp_path / "half").recommend(history=[], k=3)


def test_a_fit_that_nobody_would_meet_is_made_when_the_run_goes_on(from_log: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = from_log.network
    learner = Learner(copy.deepcopy(network.now), event_models, from_log.settings.learning)
    writer = OnlineWriter(4, 400, 6, from_log.weights, Availability.always(60), from_log.user_dim, 0.9, 1e6)
    later = later_online.OnlineLater(network, learner, writer, from_log.settings, 0)
    later.next_fit, later.count_from, met = 100, 50, [10.0] * 200
    order: list[str] = []
    monkeypatch.setattr(later, "fit", lambda: order.append("fit"))
    next(later.watch(iter([Progress(100, None, 0.0, (), met)]), 0))
    assert order == [] and later.trained()[1]["later"] == {"return": 10.0, "best_return": 10.0}

    def loop() -> Any:
        order.append("acts")
        yield Progress(4, None, 0.0)

    next(later.watch(loop(), 100))
    assert order == ["fit", "acts"] and later.next_fit == 150


@pytest.mark.parametrize(("earned", "taken_back"), [([1.0, 2.0], True), ([7.6, 12.0], True), ([8.0, 12.9], False), ([20.0, 30.0], False)])
def test_a_fit_that_got_worse_is_taken_back(from_log: Model, earned: list[float], taken_back: bool) -> None:
    network: Any = from_log.network
    learner = Learner(copy.deepcopy(network.now), event_models, from_log.settings.learning)
    writer = OnlineWriter(4, 400, 6, from_log.weights, Availability.always(60), from_log.user_dim, 0.9, 1e6)
    later = later_online.OnlineLater(network, learner, writer, from_log.settings, 0)
    later.next_fit, later.count_from = 100, 50
    before = later.acting.get_buffer("theta").clone()
    early, met, other = ([number] * 60 for number in (99.0, 10.0, 11.0))
    steps = [Progress(40, None, 0.0, (), early), Progress(60, None, 0.0, (), met), Progress(100, None, 0.0, (), other)]
    assert len(list(later.watch(iter(steps), 0))) == 3
    assert later.best is not None and later.best.mean == 10.5, "customers of the first half met what acted before"
    later.acting.get_buffer("theta").add_(1.0)  # as a new fit would
    list(later.watch(iter([Progress(40, None, 0.0, (), earned * 60)]), 100))
    kept = later.trained()[0].get_buffer("theta")
    assert torch.equal(kept, before if taken_back else before + 1.0)


def test_networks_of_one_head_begin_with_the_models_weights(dataset: Dataset) -> None:
    begun = train(dataset, algorithm="double_dqn", steps=5, **SMALL)
    model = train(env=SHOP, start=begun, steps=32, lanes=16, warm_up=1_000)
    assert model.algorithm == "double_dqn" and model.settings.offline.support_threshold == 0
    assert all(torch.equal(value, weights(model)[name]) for name, value in weights(begun).items()), "nothing was learned in so few steps"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": SHOP, "algorithm": "double_dqn"}, "the algorithm of the model, dqn, got double_dqn"),
        ({"env": SHOP, "hidden": 16}, "the network of the model, hidden=8, got hidden=16"),
        ({"env": "shop,n_items=80"}, "a world whose items the model knows, got 20 of 80 items unknown"),
        ({"env": "toy_chain"}, "a world whose items the model knows"),
        ({"env": "CartPole-v1"}, "a dataset or one of our worlds"),
    ],
)
def test_what_does_not_fit_is_one_line(from_log: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(start=from_log, steps=16, **options)


def test_a_world_that_pays_something_else_says_with_which_rewards_its_log_is_read(from_log: Model) -> None:
    other = from_log.with_answering(components=["gift", *from_log.components[1:]])
    with pytest.raises(UserError, match=r"what the model learned from, gift.*rewards click=1,cart=2"):
        train(env=SHOP, start=other, steps=16)


def test_a_ranker_without_a_network_cannot_go_on(dataset: Dataset) -> None:
    with pytest.raises(UserError, match="expected a dataset, got env shop,n_items=60, at algorithm popularity"):
        train(env=SHOP, start=train(dataset, algorithm="popularity"), steps=16)


def test_it_is_the_default_of_dqn_and_myopic_in_worlds_of_many_items() -> None:
    small = {name: value for name, value in ONLINE.items() if name not in ("form", "n_step")}
    for algorithm, world, form, n_step in (
        ("dqn", SHOP, "linear_later", 4),
        ("myopic", SHOP, "linear_later", 4),
        ("double_dqn", SHOP, "now_later", 1),
        ("dqn", "toy_chain", "now_later", 1),
    ):
        model = train(env=world, algorithm=algorithm, steps=16, **small)
        assert (model.settings.network.form, model.settings.learning.n_step) == (form, n_step), (algorithm, world)
    assert train(env=SHOP, steps=16, **small, n_step=2).settings.learning.n_step == 2
    assert train(env=SHOP, steps=16, **small, form="single").settings.network.form == "single"
    with pytest.raises(UserError, match="dqn or myopic, got double_dqn"):
        train(env=SHOP, algorithm="double_dqn", steps=16, **small, form="linear_later")


def test_it_sees_what_a_trap_costs() -> None:
    """toy_clickbait: what is clicked most drives customers away."""
    returns = {}
    engine = make_engine("toy_clickbait")
    for algorithm, gamma, steps in (("dqn", 0.95, 4_800), ("myopic", 0.0, 1_920)):
        online = ONLINE | {"window": 20, "lanes": 64, "gamma": gamma, "epsilon_steps": 2_000, "lr": 5e-3}
        model = train(env="toy_clickbait", algorithm=algorithm, steps=steps, **online)
        returns[algorithm] = rollout(engine, as_policy(model, engine, algorithm), 1, 300).returns.mean()
    best = rollout(engine, references("toy_clickbait")["optimal"](engine), 1, 300, every_lane=True).returns.mean()
    assert returns["myopic"] < 0.5 * best and returns["dqn"] > 0.9 * best, (returns, best)
