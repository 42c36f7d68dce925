"""Sequence models by cross-entropy: they learn a sequence in which two items decide the next, which no view of single items tells."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from qurate.errors import UserError
from qurate.evaluation.ranking import rank_all, ranking_targets
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import load
from qurate.models.network_ranker import NetworkRanker
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.transformer import TransformerEncoder
from qurate.networks.values import to_tensors
from qurate.training.train import train
from qurate.types import State

N = 7
SMALL: dict[str, Any] = {"hidden": 32, "embedding_dim": 16, "window": 6, "batch_size": 64, "lr": 0.01, "id_dropout": 0.0, "ema": 0.9}


@pytest.fixture(scope="module")
def sums() -> Dataset:
    """Each item is the sum of the two before it, modulo 7; after so many customers every pair has come in training."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, N, (150, 8))
    for t in range(2, 8):
        x[:, t] = (x[:, t - 1] + x[:, t - 2]) % N
    user, place = np.divmod(np.arange(x.size), 8)
    table = pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in user],
            "item_id": [f"i{i}" for i in x.ravel()],
            "type": "click",
            "timestamp": (user * 100_000 + place * 60) + 1_700_000_000,
        }
    )
    return build_dataset(table, episode="session")


def first_hits(model: Any, data: Dataset) -> float:
    """How often the item that came third or later in a visit stands first."""
    rows = ranking_targets(data)
    t = data.transitions
    known = t.history_end[t.state[rows]] - data.arrays.user_start[t.user[t.state[rows]]] >= 2
    ranked, _ = rank_all(data, rows[known], {"m": model}, 1, model.window)
    return float((ranked["m"].ranks.better == 0).mean())


@pytest.mark.parametrize(("name", "steps", "lr"), [("gru4rec", 200, 0.01), ("sasrec", 400, 0.003)])
def test_it_learns_a_sequence(name: str, steps: int, lr: float, sums: Dataset, tmp_path: Path) -> None:
    model = train(sums, algorithm=name, steps=steps, **SMALL | {"lr": lr})
    assert first_hits(model, sums) > 0.8
    assert first_hits(train(sums, algorithm="item_knn"), sums) < 0.5
    assert isinstance(model.ranker, NetworkRanker) and model.ranker.ranking_scores == ["behaviour"] == [model.by]
    network = model.ranker.module
    assert isinstance(network, CatalogueNetwork) and not network.match.any() and not network.repeat.any() and network.choice is None
    saved = model.save(tmp_path / "m")
    assert load(tmp_path / "m").recommend("u3", 3).items == saved.recommend("u3", 3).items


def test_the_terms_of_the_history_can_be_had(sums: Dataset) -> None:
    model = train(sums, algorithm="gru4rec", steps=5, history_terms=True, **SMALL)
    assert isinstance(model.ranker, NetworkRanker) and bool(model.ranker.module.repeat.any())  # type: ignore[operator, union-attr]


def test_training_goes_on_from_a_checkpoint(sums: Dataset, tmp_path: Path) -> None:
    whole = train(sums, algorithm="sasrec", steps=8, **SMALL)
    train(sums, algorithm="sasrec", steps=4, **SMALL).save(tmp_path / "m")
    gone_on = train(sums, resume=tmp_path / "m", steps=8)
    assert [i.score for i in gone_on.recommend("u3", 3).items] == [i.score for i in whole.recommend("u3", 3).items]


@pytest.mark.parametrize(("given", "named"), [({"gamma": 0.9}, "gamma"), ({"encoder": "mean"}, "encoder"), ({"double": True}, "double")])
def test_settings_of_q_learning_are_refused(given: dict[str, Any], named: str, sums: Dataset) -> None:
    with pytest.raises(UserError, match=named) as caught:
        train(sums, algorithm="gru4rec", **given)
    assert caught.value.code == "setting_of_another_algorithm"


def test_they_learn_from_a_log() -> None:
    with pytest.raises(UserError, match="qurate simulate"):
        train(env="shop", algorithm="sasrec", steps=5)


def test_the_order_of_events_matters_and_later_ones_are_not_seen() -> None:
    """The output at an event does not change with the events after it: the newest one's is the state of a shorter history."""
    torch.manual_seed(0)
    encoder = TransformerEncoder(4, 2, 7, 0, 2, 8).eval()
    vectors, nothing = torch.randn(6, 4), torch.zeros(1, 3)

    def state(items: list[int]) -> Any:
        kinds = torch.ones(1, len(items), dtype=torch.int64)
        zeros = torch.zeros(1, len(items))
        return to_tensors(State(torch.tensor([items]), kinds, zeros, zeros, nothing[:, :0], nothing[:, :2]))

    with torch.no_grad():
        one, other = (encoder(state(items), vectors, nothing, nothing) for items in ([1, 2, 3], [2, 1, 3]))
    assert not torch.allclose(one, other, atol=1e-4)
    layer_in = torch.randn(1, 5, 8)
    changed = layer_in.clone()
    changed[:, 3:] = torch.randn(1, 2, 8)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
    with torch.no_grad():
        before, after = (encoder.blocks(x, mask=mask, is_causal=True) for x in (layer_in, changed))
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-6) and not torch.allclose(before[:, 3:], after[:, 3:], atol=1e-3)
