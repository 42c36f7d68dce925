"""Ids trained row by row, against torch's own lazy Adam, a dense average step by step, and the exact losses on all rows."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qurate.algorithms.table import make_objective
from qurate.learning.learner import Learner
from qurate.learning.touched_rows import LazyAdam
from qurate.networks import quantised_max
from qurate.networks.build import build_network, touches_rows
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.item_tower import ItemTable, TouchedTable
from qurate.settings import Settings, from_flat
from qurate.types import Batch, OpenActions, State

N, B, L = 300, 16, 6


def batch(seed: int) -> Batch[Any]:
    """Some states and successors of customers whose windows, actions and successors are all random."""
    rng = np.random.default_rng(seed)

    def state() -> State:
        items = rng.integers(0, N + 1, (B, L)).astype(np.int32)
        types = np.where(items > 0, rng.integers(1, 3, (B, L)), 0).astype(np.int8)
        gaps, values = rng.random((B, L)).astype(np.float32), np.zeros((B, L), np.float32)
        return State(items, types, gaps, values, np.zeros((B, 0), np.float32), np.zeros((B, 2), np.float32))

    reward = rng.random((B, 1)).astype(np.float32)
    now = ahead = OpenActions(candidates=None, clock=np.full(B, 5), since=np.zeros(N + 1, np.int64), until=None)
    return Batch(
        state(), rng.integers(1, N + 1, B), reward, np.zeros((B, 1), np.float32), np.full(B, 0.9, np.float32), np.ones(B, np.float32),
        state(), ahead, rng.integers(1, N + 1, B), np.arange(B), actions=now,
    )  # fmt: skip


def settings_of(**given: Any) -> Settings:
    small = {"embedding_dim": 6, "hidden": 8, "window": L, "form": "single", "id_dropout": 0.0, "ema": 0.9, "aux_weight": 0.0}
    return from_flat(small | {"item_updates": "touched", "support_threshold": 0.0, "negatives": 0, "double": True} | given)


def learner_of(settings: Settings, features: int = 0, algorithm: str = "dqn") -> Learner:
    of_items = np.random.default_rng(1).normal(size=(N + 1, features)).astype(np.float32)
    of_items[0] = 0
    network = build_network(
        of_items, settings, n_types=2, user_dim=0, n_components=1, behaviour=settings.offline.aux_weight > 0, seed=0
    )  # fmt: skip
    return Learner(network, make_objective(algorithm, settings), settings.learning)


def test_it_is_the_lazy_adam_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(10, 3)) for _ in range(2))
    lazy, reference = LazyAdam([ours], lr=0.1, eps=1e-12, fused=True), torch.optim.SparseAdam([theirs], lr=0.1, eps=1e-12)
    for step in range(6):
        rows = torch.randperm(10, generator=generator)[: 2 + step % 3].sort().values
        values = torch.randn(len(rows), 3, generator=generator)
        for parameter in (ours, theirs):
            parameter.grad = torch.sparse_coo_tensor(rows[None], values, (10, 3), check_invariants=False).coalesce()
        lazy.step()
        reference.step()  # type: ignore[no-untyped-call]
    assert torch.allclose(ours, theirs, atol=1e-6) and (ours != 1).any()


def test_a_dense_parameter_beside_it_moves_as_by_adam() -> None:
    dense, rows, alone = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(5, 2)), nn.Parameter(torch.ones(4))
    both, adam = LazyAdam([dense, rows], lr=0.1, fused=True), torch.optim.Adam([alone], lr=0.1, fused=True)
    for step in range(4):
        dense.grad = alone.grad = torch.arange(4.0) - step
        rows.grad = torch.sparse_coo_tensor(torch.tensor([[step]]), torch.ones(1, 2), (5, 2), check_invariants=False).coalesce()
        both.step()
        adam.step()
    assert dense.tolist() == alone.tolist()
    assert rows.grad is not None and rows[4].tolist() == [1, 1] and rows[3].tolist() != [1, 1]


def test_only_touched_rows_move_and_their_gradient_is_that_of_all_rows_but_for_the_mean() -> None:
    one, data = learner_of(settings_of()), batch(0)
    tower = one.module.tower
    before = tower.ids.detach().clone()
    one.update(data)
    touched = set(np.concatenate([data.state.history_items.ravel(), data.action]).tolist()) - {0}
    moved = set(torch.nonzero((tower.ids != before).any(1))[:, 0].tolist())
    assert moved and moved <= touched
    dense = learner_of(settings_of(item_updates="all"))
    dense.update(data)
    assert len(torch.nonzero((dense.module.tower.ids != before).any(1))) == N, "all rows move by the gradient of the mean"
    sparse, full = tower.ids.grad.to_dense()[1:], dense.module.tower.ids.grad[1:]
    of_mean = full[sorted(set(range(N)) - {i - 1 for i in touched})][0]  # what every row gets besides
    assert torch.allclose(sparse, full - of_mean, atol=1e-5)


@pytest.mark.parametrize("features", [0, 3])
def test_the_loss_is_that_of_the_whole_table(features: int) -> None:
    given = {"id_dropout": 0.0, "aux_weight": 0.0}
    rows, whole = (learner_of(settings_of(**given, item_updates=u), features) for u in ("touched", "all"))
    for i in range(3):
        whole.load_state({**whole.state(), **{k: rows.state()[k] for k in ("network", "target")}})
        rows.module.tower.renew()
        assert rows.update(batch(i)).loss == pytest.approx(whole.update(batch(i)).loss, rel=1e-5)


@pytest.mark.parametrize(("algorithm", "given"), [("sqn", {"aux_weight": 1.0}), ("cql", {"cql_alpha": 1.0})])
def test_sampled_sums_over_a_catalogue_smaller_than_the_sample_are_exact(algorithm: str, given: dict[str, Any]) -> None:
    rows, whole = (learner_of(settings_of(**given, item_updates=u), 0, algorithm) for u in ("touched", "all"))
    assert rows.update(batch(0)).loss == pytest.approx(whole.update(batch(0)).loss, rel=1e-4)


def test_the_average_of_rows_that_move_seldom_is_that_of_every_step() -> None:
    one = learner_of(settings_of(ema=0.8))
    average = copy.deepcopy(one.module).state_dict()
    for step in range(1, 13):
        one.update(batch(step))
        decay = min(0.8, step / (step + 10))
        average = {name: decay * mean + (1 - decay) * one.module.state_dict()[name] for name, mean in average.items()}
    late = one.ema.state_dict()
    assert all(torch.allclose(late[name], mean, atol=1e-6) for name, mean in average.items())
    assert not torch.allclose(one._average.tower.ids, late["tower.ids"], atol=1e-6), "the test would see rows that do not follow"


@pytest.mark.parametrize("features", [0, 3])
def test_a_resumed_run_is_that_of_one_go(features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.learning.touched_rows.STALE", 4)
    settings = settings_of(id_dropout=0.2)
    through, first = learner_of(settings, features), learner_of(settings, features)
    for i in range(6):
        through.update(batch(i))
        first.update(batch(i))
    second = learner_of(settings, features)
    second.load_state(first.state())
    for i in range(6, 12):
        through.update(batch(i))
        second.update(batch(i))
    for name, value in through.ema.state_dict().items():
        assert torch.equal(value, second.ema.state_dict()[name]), name


def test_the_rows_that_are_searched_are_the_present_ones() -> None:
    one = learner_of(settings_of())
    for i in range(3):
        one.update(batch(i))
    network = one.module
    assert isinstance(network, CatalogueNetwork)
    table = network.train().tower()
    assert isinstance(table, TouchedTable)
    whole = network.eval().tower()
    assert isinstance(whole, ItemTable)
    shift = (table.centred - whole.centred)[1:]
    assert torch.allclose(shift, shift[0].expand_as(shift), atol=1e-6), "but for the mean, which is that of the last renewal"
    assert float(shift.detach().abs().max()) > 0
    network.tower.renew()
    assert torch.allclose(network.train().tower().centred, whole.centred, atol=1e-6)


def test_the_mean_is_renewed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.learning.touched_rows.STALE", 2)
    one = learner_of(settings_of())
    for update, renewed in ((1, False), (2, True), (3, False)):
        one.update(batch(update))
        mean = torch.cat([one.module.tower.ids, one.module.tower.id_bias], 1)[1:].mean(0)
        assert torch.allclose(one.module.tower.searched_rows().mean, mean, atol=1e-7) == renewed


def test_from_which_size_on_rows_are_touched_one_by_one() -> None:
    limit = quantised_max.ITEMS
    assert [touches_rows(from_flat({}), n) for n in (limit, limit + 1)] == [False, True]
    assert touches_rows(from_flat({"item_updates": "touched"}), 10) and not touches_rows(from_flat({"item_updates": "all"}), limit + 1)
