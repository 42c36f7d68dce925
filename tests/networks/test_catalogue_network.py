"""Q over the catalogue: what the numbers may not depend on."""

import numpy as np
import pytest
import torch

from qurate.networks.catalogue_network import REPEAT_LR_SCALE, CatalogueNetwork
from qurate.networks.encoders import ENCODERS, HistoryViews
from qurate.networks.values import to_tensors
from qurate.types import State, take_rows

N, L, TYPES, R = 37, 12, 3, 2


def network(encoder: str = "mean", form: str = "now_later", features: int = 5, seed: int = 0, behaviour: bool = True) -> CatalogueNetwork:
    torch.manual_seed(seed)
    matrix = torch.randn(N + 1, features)
    matrix[0] = 0
    net = CatalogueNetwork(
        matrix, n_types=TYPES, user_dim=4, context_dim=2, n_components=R, dim=8, hidden=16, encoder=encoder, form=form,
        id_embedding=True, id_dropout=0.5, behaviour=behaviour,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return net.eval()


def states(n: int = 9, seed: int = 0) -> State:
    rng = np.random.default_rng(seed)
    length = rng.integers(0, L + 1, n)
    real = np.arange(L)[None] >= (L - length)[:, None]
    items, types = rng.integers(1, N + 1, (n, L)) * real, rng.integers(1, TYPES + 1, (n, L)) * real
    gaps, values = (rng.exponential(1000, (n, L)) * real).astype(np.float32), (rng.random((n, L)) * real).astype(np.float32)
    return State(items, types, gaps, values, rng.random((n, 4)).astype(np.float32), rng.random((n, 2)).astype(np.float32))


@pytest.mark.parametrize("encoder", ["mean", "gru", "transformer"])
@pytest.mark.parametrize("form", ["now_later", "single"])
def test_q_of_candidates_equals_q_over_the_catalogue(encoder: str, form: str) -> None:
    net = network(encoder, form)
    with torch.no_grad():
        values = net.bind()(to_tensors(states()))
        everything = values.all()
        items = torch.as_tensor(np.random.default_rng(1).integers(1, N + 1, (9, 6)))
        assert torch.allclose(values.of(items), everything.gather(1, items), atol=1e-5)
        assert torch.allclose(values.behaviour_logits(items), values.behaviour_logits().gather(1, items), atol=1e-5)
        assert torch.allclose(values.by_head(items).sum(2), everything.gather(1, items), atol=1e-5)


@pytest.mark.parametrize("encoder", ["mean", "gru", "transformer"])
def test_a_row_does_not_depend_on_its_batch(encoder: str) -> None:
    net, batch = network(encoder), states()
    with torch.no_grad():
        bound = net.bind()
        together = bound(to_tensors(batch)).all()
        alone = [bound(to_tensors(take_rows(batch, slice(i, i + 1)))).all() for i in range(9)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("encoder", ["mean", "gru", "transformer"])
def test_padding_says_nothing(encoder: str) -> None:
    """A longer window around the same short history gives the same Q, but for the mean encoder's 1 / L of values."""
    net, batch = network(encoder), states()
    batch = batch._replace(history_values=np.zeros_like(batch.history_values))
    wide = State(*(np.concatenate([np.zeros((9, 5), column.dtype), column], 1) for column in batch[:4]), *batch[4:])
    with torch.no_grad():
        bound = net.bind()
        short, long = (bound(to_tensors(s)).all() for s in (batch, wide))
    assert torch.allclose(short, long, atol=1e-5)


def test_this_visit_begins_after_the_last_pause() -> None:
    """A gap stands at the row before it: 30 minutes at the second row put that row into the visit before."""
    views = HistoryViews(n_types=1, dim=3)
    gaps = torch.tensor([[5, 1800, 7, 9], [5, 1799, 7, 9], [5, 1800, 7, 1800]], dtype=torch.float32)
    ones, nothing = torch.ones(3, 4, dtype=torch.int64), torch.zeros(3, 4)
    with torch.no_grad():
        _, weights = views(State(ones, ones, gaps, nothing, nothing[:, :0], nothing[:, :2]), torch.ones(2, 3))
    wanted = torch.tensor([[0, 0, 0.2, 0.2], [0.2, 0.2, 0.2, 0.2], [0, 0, 0, 0]])  # the last decision opens a visit of its own
    assert torch.allclose(weights[:, 2], wanted)


def test_the_value_is_the_mean_over_the_catalogue() -> None:
    """But for what repeating brings the few items of the window."""
    net = network()
    with torch.no_grad():
        net.repeat.zero_()
        values = net.bind()(to_tensors(states()))
        mean = values.all()[:, 1:].mean(1)
        assert torch.allclose(mean, values.heads.value.sum(1), atol=1e-4)


def test_repeating_adds_to_the_items_of_the_window_alone() -> None:
    net, batch = network(), states()
    items = torch.arange(1, N + 1).expand(9, N)
    with torch.no_grad():
        values = net.bind()(to_tensors(batch))
        with_repeat, with_logits = values.by_head(items), values.behaviour_logits()
        repeat, weights = REPEAT_LR_SCALE * net.repeat, net.views(to_tensors(batch), values.table.vectors)[1]
        net.repeat.zero_()
        values = net.bind()(to_tensors(batch))
        bare, bare_logits = values.by_head(items), values.behaviour_logits()
    wanted = torch.zeros(9, N + 1, 2 * R + 1)
    for row in range(9):
        for place, item in enumerate(batch.history_items[row].tolist()):
            if item:
                wanted[row, item] += repeat @ weights[row, :, place]
    assert torch.allclose(with_repeat - bare, wanted[:, 1:, :-1], atol=1e-5)
    assert torch.allclose((with_logits - bare_logits)[:, 1:], wanted[:, 1:, -1], atol=1e-5)
    assert float(wanted.abs().max()) > 0.1


def test_later_starts_at_the_same_value_for_all_items() -> None:
    torch.manual_seed(0)
    net = CatalogueNetwork(
        torch.zeros(N + 1, 0), n_types=TYPES, user_dim=4, context_dim=2, n_components=R, dim=8, hidden=16, encoder="mean",
        form="now_later", id_embedding=True, id_dropout=0.0, behaviour=False,
    )  # fmt: skip
    with torch.no_grad():
        by_head = net.bind()(to_tensors(states())).by_head(torch.arange(1, N + 1).expand(9, N))
    assert float(by_head[:, :, R:].std(1).max()) < 1e-6
    assert float(by_head[:, :, :R].std(1).max()) > 1e-3


def test_id_dropout_hides_ids_and_leaves_features() -> None:
    net = network().train()
    full = network().eval().tower(None).vectors
    hidden = net.tower(torch.Generator().manual_seed(0)).vectors
    from_features = net.tower.from_features(net.tower.get_buffer("features"))[:, :8]  # type: ignore[misc]
    same = torch.isclose(hidden, full, atol=1e-6).all(1)
    only_features = torch.isclose(hidden, from_features, atol=1e-6).all(1)
    assert bool((same | only_features).all())
    assert 5 < int(only_features[1:].sum()) < N - 5


def test_both_encoders_are_of_the_kind_that_is_asked_for() -> None:
    """`later` of a GRU network is a GRU too."""
    for kind in ("mean", "gru", "transformer"):
        net = network(kind)
        assert type(net.later_encoder) is type(net.encoder) is ENCODERS[kind]
