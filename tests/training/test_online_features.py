"""Features of candidates online: kept in the replay, used for now and for the successor's maximum, and what a model without them does."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from qurate.algorithms.dqn import next_values
from qurate.algorithms.objective import Networks, of_action
from qurate.baselines.registry import random_policy
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.errors import UserError
from qurate.events.readers import read_events
from qurate.learning.loops import q_values
from qurate.mdp.candidate_features import feature_count, feature_names, observed_features
from qurate.mdp.dataset import build_dataset
from qurate.models.model import Model, load
from qurate.models.network_ranker import CACHED_ROWS, NetworkRanker
from qurate.models.recommend import note_once
from qurate.networks.build import build_network
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.networks.values import to_tensors
from qurate.replay.writers import OnlineWriter
from qurate.settings import replace as with_leaves
from qurate.training import later_online
from qurate.training.from_log import candidate_columns
from qurate.training.in_environment import fresh_model
from qurate.training.later_from_log import greedy, log_part
from qurate.training.online_features import LEAST_SPREAD, layers_of, seen_features
from qurate.training.train import train, usual_settings
from qurate.types import Observation

SMALL: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 6, "batch_size": 32, "id_embedding": False}
ONLINE: dict[str, Any] = SMALL | {"lanes": 16, "warm_up": 160, "update_every": 16}
COLUMNS = {"news": ("age_hours",), "live": ("age_hours", "heat")}
LANES, STEPS = 5, 9


class Filled:
    """A replay of a few customers who see the first three candidates again and again, and what they saw."""

    def __init__(self, world: str = "news", max_steps: int = 4) -> None:
        self.engine = make_engine(world, max_steps=max_steps, window=6)
        self.columns, self.n_types = COLUMNS[world], len(self.engine.type_names)
        self.writer = OnlineWriter(
            LANES, LANES * 20, 6, self.engine.component_weights, self.engine.availability, len(self.engine.user_feature_names), 0.9, 1e6,
            rows_per_step=self.engine.rows_per_step, n_candidates=self.engine.n_candidates, columns=self.columns, n_types=self.n_types,
        )  # fmt: skip
        self.seen, self.closed, self.cut = [self.engine.reset(2, LANES)], list[np.ndarray](), list[np.ndarray]()
        self.last: list[Any] = []
        self.engine.keep_final = True
        self.writer.begin(self.seen[0], self.engine.clock)
        for step in range(STEPS):
            position = np.full(LANES, step % 3)
            shown = self.seen[-1].actions.candidates[np.arange(LANES), position]
            feedback = self.engine.step(position)
            self.closed.append(self.writer.add(shown, feedback))
            self.cut.append(feedback.terminated | feedback.truncated)
            self.last.append(self.engine.final if feedback.truncated.any() else None)
            self.seen.append(feedback.obs)

    def features(self, observation: Observation[Any]) -> np.ndarray:
        return observed_features(observation, self.columns, self.n_types)


@pytest.mark.parametrize("world", COLUMNS)
def test_batches_carry_what_was_observed(world: str) -> None:
    """At the decision for what was shown, and in the successor for its whole list, also where an episode was cut."""
    made, cuts, went_on = Filled(world), 0, 0
    for step in range(STEPS):
        batch = made.writer.store.batch(made.closed[step])
        now = made.features(made.seen[step])[:, step % 3]
        assert batch.action_features is not None and np.allclose(batch.action_features, now, atol=1e-5, equal_nan=True)
        for lane in np.flatnonzero(batch.discount > 0).tolist():
            following = made.last[step] if made.cut[step][lane] else made.seen[step + 1]
            assert batch.next_actions.candidates is not None and batch.next_actions.features is not None
            own, listed = following.actions.mask[lane] > 0, batch.next_actions.candidates[lane] > 0
            assert np.array_equal(batch.next_actions.candidates[lane][listed], following.actions.candidates[lane][own])
            assert np.allclose(batch.next_actions.features[lane][listed], made.features(following)[lane][own], atol=1e-5)
            cuts, went_on = cuts + made.cut[step][lane], went_on + (not made.cut[step][lane])
    assert cuts >= 3 and went_on >= 20
    shown = feature_names(made.columns, made.engine.type_names).index("log_count_shown")
    assert made.writer.store.batch(made.closed[3]).next_actions.features[:, :, shown].max() > 0.5  # type: ignore[index]


def test_a_restored_replay_has_the_same_features() -> None:
    one, two = Filled(), Filled()
    two.writer.tables.candidate_values[:] = -1
    two.writer.restore({name: array.copy() for name, array in one.writer.state().items()})
    index = np.concatenate(one.closed)
    a, b = (made.writer.store.batch(index) for made in (one, two))
    assert np.array_equal(a.action_features, b.action_features, equal_nan=True)  # type: ignore[arg-type]
    assert np.array_equal(a.next_actions.features, b.next_actions.features, equal_nan=True)  # type: ignore[arg-type]


def network(world: str, form: str) -> Any:
    """Of random weights that read features of candidates."""
    settings = with_leaves(usual_settings("dqn"), **SMALL | {"form": form})
    made = cast(NetworkRanker, fresh_model(make_engine(world, window=6), settings, "dqn", 0, world).ranker).module
    generator = torch.Generator().manual_seed(3)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    if isinstance(made, LinearLaterNetwork):
        made.now.get_buffer("amount").fill_(1.0)
        made.get_buffer("theta").copy_(torch.randn(made.get_buffer("theta").shape, generator=generator) * 0.1)
    return made


@pytest.mark.parametrize("world", COLUMNS)
@torch.no_grad()
def test_the_maximum_of_the_linear_form_reads_the_successors_own_features(world: str) -> None:
    made, net = Filled(world), network(world, "linear_later")
    index = np.concatenate(made.closed)
    part = log_part(net, made.writer.store, index, 1)
    found = greedy(net, part, net.get_buffer("theta").double())
    batch = to_tensors(made.writer.store.batch(index))
    values, listed, features = net.bind()(batch.next_state), batch.next_actions.candidates, batch.next_actions.features
    by_head = values.by_head(listed, features)  # [T, K, 2 R]
    place = by_head.sum(2).masked_fill(listed == 0, -1e9).argmax(1)
    best = by_head[torch.arange(len(index)), place]
    components = best.shape[1] // 2
    assert torch.allclose(found.now.float(), best[:, :components], atol=1e-5)
    theta = net.get_buffer("theta")
    assert torch.allclose(found.features.float() @ theta, best[:, components:], atol=1e-4)
    assert torch.equal(values.best(batch.next_actions), listed.gather(1, place[:, None])[:, 0])
    assert not torch.allclose(by_head, values.by_head(listed), atol=1e-3), "features make a difference"
    padding = torch.where((listed == 0)[:, :, None], 1e3, values.now.by_head(listed, features))
    net.get_buffer("theta").zero_()
    expected = listed.gather(1, padding.sum(2).masked_fill(listed == 0, -1e9).argmax(1, keepdim=True))[:, 0]
    assert (listed == 0).any() and torch.equal(values.best_listed(batch.next_actions, padding)[0], expected), "padding is never the best"
    here = net.bind()(batch.state)
    now = here.now.of(batch.action[:, None], of_action(batch))[:, 0]
    assert torch.allclose(part.data.features.float(), here.features(batch.action, now), atol=1e-5)


@torch.no_grad()
def test_the_target_of_a_network_reads_the_successors_own_features() -> None:
    made, net = Filled(), network("news", "now_later")
    batch = to_tensors(made.writer.store.batch(np.concatenate(made.closed)))
    settings = with_leaves(usual_settings("dqn"), **SMALL)
    bound = net.bind()
    values, listed, features = bound(batch.next_state), batch.next_actions.candidates, batch.next_actions.features
    expected = values.of(listed, features).masked_fill(listed == 0, -1e9).amax(1)
    assert torch.allclose(next_values(Networks(net, bound), bound, batch, settings).sum(1), expected, atol=1e-5)
    assert not torch.allclose(values.of(listed).masked_fill(listed == 0, -1e9).amax(1), expected, atol=1e-3)


@pytest.mark.parametrize("form", ["linear_later", "now_later"])
def test_what_acts_and_what_ranks_read_the_features_alike(form: str) -> None:
    """Loop, ranker and the values by hand."""
    net, engine = network("live", form), make_engine("live", window=6)
    observation = engine.reset(1, 30)
    for step in range(4):
        observation = engine.step(np.full(30, step % 2)).obs
    features = observed_features(observation, COLUMNS["live"], len(engine.type_names))
    ranker = NetworkRanker(net, engine.item_features, columns=COLUMNS["live"], n_types=len(engine.type_names))
    by_hand = net.bind()(to_tensors(observation.state)).of(to_tensors(np.array(observation.actions.candidates)), torch.from_numpy(features))
    assert np.allclose(q_values(net, observation, features=features), by_hand, atol=1e-5)
    listed = observation.actions.candidates > 0
    assert np.allclose(ranker.scores(observation)[listed], by_hand[listed], atol=1e-5)
    other = observation._replace(actions=observation.actions._replace(values=observation.actions.values * 2))  # type: ignore[operator]
    assert not np.allclose(ranker.scores(other), by_hand, atol=1e-3)


def test_the_mean_candidate_stands_for_features_that_are_not_known() -> None:
    """`all` of the catalogue is what `of` says without features."""
    net, engine = network("news", "linear_later"), make_engine("news", window=6)
    values = net.bind()(to_tensors(engine.reset(1, 4).state))
    every = torch.arange(len(engine.item_ids) + 1).expand(4, -1)
    assert torch.allclose(values.of(every)[:, 1:], values.all()[:, 1:], atol=1e-4)
    assert net.now.heads.candidate(None).abs().sum() > 0


@pytest.fixture(scope="module")
def model() -> Model:
    return train(env="news", steps=640, **ONLINE)


def test_a_trained_model_knows_what_it_reads_and_keeps_it(model: Model, tmp_path: Path) -> None:
    ranker = cast(NetworkRanker, model.ranker)
    assert ranker.columns == COLUMNS["news"] == model.candidate_columns and isinstance(ranker.module, LinearLaterNetwork)
    layers = layers_of(ranker.module)
    assert layers.standardised and float(layers.get_buffer("scale").max()) <= 1 / LEAST_SPREAD + 1e-4
    assert bool(layers.kinds[0][-1].weight.any()), "they have learned something"  # type: ignore[index, union-attr]
    model.save(tmp_path / "model")
    observation = make_engine("news", window=6).reset(4, 20)
    assert np.array_equal(load(tmp_path / "model").scores(observation), model.scores(observation))


def test_the_scale_comes_from_the_warm_up_and_is_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    from qurate.training import online_features

    own = online_features.seen_features
    monkeypatch.setattr(online_features, "seen_features", lambda writer: asked.append(int(writer.written.sum())) or own(writer))
    train(env="news", steps=240, **ONLINE)
    assert len(asked) == 1 and 160 <= asked[0] < 160 + 3 * 16, "at the end of the warm-up, the customers who came included"


def test_the_scale_by_hand() -> None:
    made = Filled("live")
    features = seen_features(made.writer)
    layers = layers_of(network("live", "linear_later"))
    layers.standardise(torch.from_numpy(features), LEAST_SPREAD)
    known = np.isfinite(features)
    mean = np.where(known, features, 0).sum(0) / known.sum(0)
    spread = np.sqrt((np.where(known, features - mean, 0) ** 2).sum(0) / known.sum(0))
    assert np.allclose(layers.get_buffer("mean"), mean, atol=1e-4)
    assert np.allclose(layers.get_buffer("scale"), 1 / np.maximum(spread, LEAST_SPREAD), rtol=1e-3)
    assert (spread == 0).any(), "what never varied may vary later"
    age = feature_names(made.columns, made.engine.type_names).index("age_hours_log")
    assert 0 < mean[age] < np.log1p(8)


def test_a_resumed_run_is_the_one_that_was_not_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(later_online, "LEAST_DECISIONS", 200)
    whole = train(env="live", steps=480, **ONLINE)
    train(env="live", steps=256, **ONLINE).save(tmp_path / "half")
    resumed = train(resume=tmp_path / "half", steps=480)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


@pytest.mark.parametrize("algorithm", ["double_dqn", "myopic", "dueling_dqn"])
def test_other_algorithms_that_can_use_them_do(algorithm: str) -> None:
    trained = train(env="live", algorithm=algorithm, steps=208, **ONLINE)
    assert trained.candidate_columns == COLUMNS["live"] and layers_of(trained.network).standardised


@pytest.mark.parametrize(("world", "settings"), [
    ("news", {"candidate_features": False}), ("news", {"algorithm": "c51", "v_min": -1, "v_max": 40}), ("shop", {}),
])  # fmt: skip
def test_without_features_the_network_has_no_layers_for_them(world: str, settings: dict[str, Any]) -> None:
    trained = train(env=world, steps=192, **ONLINE, **settings)
    assert trained.candidate_columns == ()
    inner = next(part for part in trained.network.modules() if isinstance(part, CatalogueNetwork))
    assert inner.candidate is None


def test_defaults_follow_whether_items_come_and_go() -> None:
    tiny: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 6, "batch_size": 32, "lanes": 16}
    news, asked, shop = (train(env=env, steps=16, **tiny, **own).settings for env, own in (
        ("news", {}), ("news", {"update_every": 5, "id_embedding": True}), ("shop", {}),
    ))  # fmt: skip
    assert (news.replay.update_every, news.network.id_embedding, news.learning.n_step) == (16, False, 4)
    assert (asked.replay.update_every, asked.network.id_embedding) == (5, True)
    assert (shop.replay.update_every, shop.network.id_embedding) == (4, True)


def test_an_answer_without_the_features_says_so_and_treats_all_alike(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    items = list(model.vocabulary.items[:30])
    note_once.cache_clear()  # another test may have had the same note
    with caplog.at_level(logging.WARNING):
        without = model.recommend(history=[], k=30, candidates=items)
    assert "age_hours of candidates" in caplog.text
    given = model.recommend(history=[], k=30, candidates=items, candidate_features={"age_hours": list(range(30))})
    again = model.recommend(history=[], k=30, candidates=items, candidate_features={"age_hours": [None] * 30})
    scores = [{item.item_id: item.score for item in answer.items} for answer in (without, given, again)]
    assert scores[0] == scores[2] != scores[1]
    with pytest.raises(UserError, match="30 numbers for age_hours"):
        model.recommend(history=[], k=5, candidates=items, candidate_features={"age_hours": [1.0]})


def test_from_a_log_the_linear_form_says_that_it_leaves_them_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine("live")
    simulate(engine, random_policy(1), 40, 20, 0, tmp_path / "log.parquet")
    data = build_dataset(read_events(tmp_path / "log.parquet"), rewards={"like": 1, "click": 1}, episode="user")
    tiny: dict[str, Any] = {"hidden": 8, "embedding_dim": 4, "window": 6, "steps": 5}
    assert train(data, **tiny).candidate_columns == ()
    assert "does not use what the log says of each candidate (age_hours, heat); --set form=now_later does" in caplog.text
    assert train(data, form="now_later", **tiny).candidate_columns[:2] == ("age_hours", "heat")
    caplog.clear()
    only_place = replace(data, manifest=data.manifest | {"candidate_columns": ["place"]})
    assert candidate_columns(only_place, with_leaves(usual_settings("dqn"), form="linear_later")) is None and not caplog.text


def test_features_of_many_candidates_reach_both_heads_of_the_ranker() -> None:
    """More rows than go through the layers at a time; the behaviour head has layers of its own."""
    engine = make_engine("live", window=6)
    observation = engine.reset(1, 200)
    columns, n_types = COLUMNS["live"], len(engine.type_names)
    settings = with_leaves(usual_settings("dqn"), **SMALL | {"form": "single"})
    net = cast(
        CatalogueNetwork,
        build_network(
            engine.item_features, settings, n_types=n_types, user_dim=observation.state.user.shape[1],
            n_components=len(engine.component_names), behaviour=True, seed=0, candidate_features=feature_count(columns, n_types),
        ),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    ranker = NetworkRanker(net, engine.item_features, columns=columns, n_types=n_types)
    candidates = observation.actions.candidates
    assert (candidates > 0).sum() > 2 * CACHED_ROWS
    with torch.no_grad():
        values = net.bind()(to_tensors(observation.state))
        items, features = to_tensors(np.array(candidates)), torch.from_numpy(observed_features(observation, columns, n_types))
        q, logits = values.of(items, features).numpy(), values.behaviour_logits(items, features).numpy()
        without = values.behaviour_logits(items).numpy()
    listed = candidates > 0
    assert np.allclose(ranker.scores(observation)[listed], q[listed], atol=1e-5)
    assert np.allclose(ranker.ranked_by("behaviour").scores(observation)[listed], logits[listed], atol=1e-5)
    assert not np.allclose(logits[listed], without[listed], atol=1e-2)
