"""`train --from`: what a model of another catalogue brings along."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from mdp_logs import event, make_log

from qurate.cli import app as cli
from qurate.errors import UserError
from qurate.events.features import feature_matrix
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model
from qurate.models.ranker import RankingScore
from qurate.networks.build import build_network
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.training.from_model import Names, _columns, carry_weights, features_as_before
from qurate.training.train import train

SMALL = {"hidden": 8, "embedding_dim": 4, "window": 4, "batch_size": 16}


def shop(items: list[str], users: int = 40, rewards: str | None = None, kinds: tuple[str, ...] = ("click", "purchase")) -> Dataset:
    rows, rng = [], np.random.default_rng(len(items))
    for user in range(users):
        for step in range(8):
            kind = kinds[0 if step % 3 else -1]
            rows.append(event(f"u{user:02d}", str(rng.choice(items)), 1.7e9 + step * 40_000 + user, kind))
    table = pl.DataFrame(
        {
            "item_id": sorted(items),
            "price": [None if i == "i04" else float(1 + int(i[1:])) for i in sorted(items)],
            "colour": [("red", "blue", "green")[int(i[1:]) % 3] for i in sorted(items)],
        }
    )
    people = pl.DataFrame({"user_id": [f"u{i:02d}" for i in range(users)], "age": [20.0 + i + len(items) for i in range(users)]})
    return build_dataset(make_log(rows, items=table, users=people), rewards, episode="user")


BEFORE, AFTER = [f"i{i:02d}" for i in range(12)], [f"i{i:02d}" for i in range(4, 20)]


def scores_at_start(model: Model, dataset: Dataset, by: RankingScore = "q") -> tuple[np.ndarray, np.ndarray]:
    """Scores of the items both know, by the model and by a network that begins with its weights, for the same customers."""
    n = len(model.weights)
    network = build_network(
        dataset.item_features, model.settings, n_types=dataset.vocabulary.n_types, user_dim=dataset.user_features.shape[1],
        n_components=n, behaviour=model.settings.offline.aux_weight > 0, seed=5,
    )  # fmt: skip
    carry_weights(network, model, dataset)
    from qurate.models.answer import observe
    from qurate.models.histories import parse_history
    from qurate.models.network_ranker import NetworkRanker

    common = [item for item in dataset.vocabulary.items if item in model.vocabulary.items]
    history = [
        {"item_id": common[0], "type": "click", "timestamp": 10**15},
        {"item_id": common[3], "type": "purchase", "timestamp": 2 * 10**15},
    ]
    user = pl.DataFrame({"age": [33.0, 41.0]})
    out = []
    for one, ranker in ((model, model.ranker), (dataset, NetworkRanker(network, dataset.item_features))):
        numbers = np.array([one.vocabulary.items.index(item) + 1 for item in common])
        spec = model.user_spec if one is model else dataset.user_spec
        view = model if one is model else model.with_answering(vocabulary=dataset.vocabulary, user_dim=dataset.user_features.shape[1])
        rows = [parse_history(one.vocabulary, history[:k]) for k in (2, 1)]
        seen = observe(view, rows, np.full(2, 3 * 10**15), numbers, feature_matrix(user, spec)[0])
        scored = ranker.ranked_by(by).scores(seen)
        out.append(scored - scored.mean(1, keepdims=True))  # an advantage is over a catalogue's mean
    return out[0], out[1]


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        ("dqn", {}),
        ("dqn", {"encoder": "gru"}),
        ("dueling_dqn", {}),
        ("c51", {"v_min": -1.0, "v_max": 60.0}),
        ("dqn", {"aux_weight": 0.0}),
        ("dqn", {"form": "single"}),
    ],
)
def test_items_and_features_that_both_know_have_the_same_scores_at_the_start(algorithm: str, more: dict[str, object]) -> None:
    model = train(shop(BEFORE), algorithm=algorithm, steps=20, **SMALL, **more)
    # a distribution's mean is no linear function of its logits, which the catalogue's mean moves: there the items stay
    later = shop(BEFORE, users=50) if algorithm == "c51" else shop(AFTER)
    old, new = scores_at_start(model, later)
    np.testing.assert_allclose(new, old, atol=2e-4 * max(1.0, np.abs(old).max()))
    assert np.ptp(old) > 1e-3


def test_the_behaviour_head_begins_as_it_was_too() -> None:
    """With attention to single events and gated repeats, by type and place."""
    model = train(shop(BEFORE), steps=60, **SMALL)
    assert any(name.startswith("choice.") for name, _ in model.network.named_parameters())
    old, new = scores_at_start(model, shop(AFTER, kinds=("click", "cart", "purchase")), "behaviour")
    np.testing.assert_allclose(new, old, atol=2e-4 * max(1.0, np.abs(old).max()))
    assert np.ptp(old) > 1e-3


def test_a_new_event_type_moves_no_weight_to_another() -> None:
    model = train(shop(BEFORE), steps=60, **SMALL)
    old, new = scores_at_start(model, shop(AFTER, kinds=("click", "cart", "purchase")))
    np.testing.assert_allclose(new, old, atol=2e-4 * max(1.0, np.abs(old).max()))


def test_features_as_an_earlier_spec_encodes_them() -> None:
    """A x' + c is the old encoding, other means, a new colour, a missing flag that is new, a column gone."""
    old = pl.DataFrame({"price": [1.0, 2.0, 9.0, 4.0], "size": [1.0, None, 3.0, 5.0], "colour": ["red", "blue", "red", "blue"]})
    new = pl.DataFrame({"price": [10.0, 20.0, None, 4.0, 8.0, 9.0], "colour": ["blue", "red", "green", "blue", "green", "red"]})
    spec = feature_matrix(old)[1]
    encoded, later = feature_matrix(new)
    matrix, shift = features_as_before(spec, later)
    wanted = feature_matrix(new, spec)[0]
    got = encoded @ matrix.T + shift
    # a price that is missing is the mean to both, and the old spec has no flag for it
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_rewards_and_settings_are_kept_unless_given(caplog: pytest.LogCaptureFixture) -> None:
    model = train(shop(BEFORE, rewards="click=1,purchase=20"), algorithm="double_dqn", steps=3, gamma=0.5, **SMALL)
    again = train(shop(AFTER), start=model, steps=3)
    assert again.algorithm == "double_dqn" and again.settings == model.settings
    assert dict(zip(again.components, again.weights.tolist())) == {"click": 1.0, "purchase": 20.0}
    said = "\n".join(caplog.messages)
    assert (
        "gamma=0.5" in said
        and "purchase 20" in said
        and "8 of 16 items begin as the model has them, 8 new ones from their features" in said
    )
    other = train(shop(AFTER, rewards="click=3"), start=model, steps=3, gamma=0.7, rewards=None)
    assert other.weights.tolist() == [3.0] and other.settings.learning.gamma == 0.7
    given = train(shop(AFTER), start=model, steps=3, rewards="purchase=2")
    assert dict(zip(given.components, given.weights.tolist())) == {"click": 0.0, "purchase": 2.0}


def test_a_start_is_better_than_none_where_the_new_log_is_short() -> None:
    """Without a step of training the model answers as the old one does; a fresh network cannot."""
    model = train(shop(BEFORE, users=60), steps=60, **SMALL)
    later = shop(AFTER)
    old, begun = scores_at_start(model, later)
    order = np.argsort(-old, axis=1)
    assert (np.argsort(-begun, axis=1)[:, :3] == order[:, :3]).all()
    kept = train(later, start=model, steps=1, ema=0.0, lr=1e-9)
    assert kept.metrics["steps"] == 1 and kept.metrics["started_from"] == model.version


def test_a_baseline_is_fitted_again_with_the_rewards(caplog: pytest.LogCaptureFixture) -> None:
    model = train(shop(BEFORE, rewards="click=1,purchase=20"), algorithm="popularity")
    again = train(shop(AFTER), start=model)
    assert again.algorithm == "popularity" and again.weights.tolist() == [1.0, 20.0]
    network = train(shop(AFTER), start=model, algorithm="dqn", steps=2, **SMALL)
    assert network.weights.tolist() == [1.0, 20.0] and "no network" in "\n".join(caplog.messages)


def test_no_histories_stays_so() -> None:
    model = train(shop(BEFORE), algorithm="popularity", histories=False)
    assert train(shop(AFTER), start=model).histories is None
    assert train(shop(AFTER), start=model, histories=True).histories is not None


def test_what_cannot_be_begun_with_is_refused() -> None:
    data = shop(AFTER)
    model = train(shop(BEFORE), steps=2, **SMALL)
    with pytest.raises(UserError, match="hidden=8, got hidden=16"):
        train(data, start=model, hidden=16)
    with pytest.raises(UserError, match="trained on a log"):
        train(data, start=train(env="toy_chain", steps=64, **SMALL))
    with pytest.raises(UserError, match="items unknown to the model"):
        train(env="toy_chain", start=model)
    with pytest.raises(UserError, match="model directory"):
        train(data, start="no such place")
    renamed = replace(model, answering=replace(model.answering, vocabulary=data.vocabulary))
    assert renamed.vocabulary != model.vocabulary  # `start` is read, never changed


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop(BEFORE).write(tmp_path / "before")
    shop(AFTER).write(tmp_path / "after")
    small = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    assert cli.main(["train", str(tmp_path / "before"), "-o", str(tmp_path / "old"), "--steps", "5", "--rewards", "click=2", *small]) == 0
    capsys.readouterr()
    args = ["train", str(tmp_path / "after"), "-o", str(tmp_path / "new"), "--steps", "5", "--from", str(tmp_path / "old")]
    assert cli.main(args) == 0
    out, err = capsys.readouterr()
    assert "note: reward weights as in the model: click 2, purchase 0" in err and "hidden=8" in err
    assert f"started_from {tmp_path / 'old'}" in out


def test_features_of_candidates_are_read_in_the_new_scale() -> None:
    """x = A x' + c where both networks standardise the same raw numbers, each by its own log."""
    rng = np.random.default_rng(0)
    names = (["touched", "price", "place"], ["place", "new", "price"])
    raw = rng.normal(3.0, 2.0, (50, 4)).astype(np.float32)  # touched, price, place, new
    seen = [raw[:, :3], np.stack([raw[:, 2] * 3 + 1, raw[:, 3], raw[:, 1] - 4], axis=1)]
    networks = tuple(
        CatalogueNetwork(
            torch.zeros(4, 0), n_types=1, user_dim=0, context_dim=2, n_components=1, dim=4, hidden=8, encoder="mean", form="single",
            id_embedding=True, id_dropout=0.0, behaviour=False, candidate_features=3,
        )
        for _ in names
    )  # fmt: skip
    for network, features in zip(networks, seen):
        assert network.candidate is not None
        network.candidate.standardise(torch.from_numpy(features))
    old, new = (Names([], ["click"], ["click"], {}, {}, one) for one in names)
    matrix, shift = _columns("candidate.kinds.0.0.weight", 3, 3, old, new, networks)
    asked = {"price": 2.0, "place": 5.0, "new": 1.0}  # `touched` is not there any more: it counts as the mean
    scaled = [
        np.array(
            [
                (asked.get(name, float(n.candidate.mean[i])) - float(n.candidate.mean[i])) * float(n.candidate.scale[i])
                for i, name in enumerate(own)
            ]
        )
        for own, n in zip(names, networks)
    ]
    assert matrix is not None
    np.testing.assert_allclose(matrix @ scaled[1] + shift, scaled[0], rtol=1e-4, atol=1e-4)
