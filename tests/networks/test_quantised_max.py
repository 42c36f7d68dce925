"""The search among bytes against a plain float64 maximum, on catalogues that make it easy, hard and impossible."""

import pytest
import torch

from qurate.networks.catalogue_values import Scores
from qurate.networks.quantised_max import QuantisedRows, fast_bytes

N, B, L, K = 5_000, 37, 12, 19


def case(seed: int, heavy: bool = False) -> tuple[torch.Tensor, Scores]:
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(N + 1, K, generator=g)
    if heavy:  # a few items are much longer than the others
        rows *= torch.rand(N + 1, 1, generator=g) ** -0.7
    history = torch.randint(0, N + 1, (B, L), generator=g)
    history[:, 3] = history[:, 4]  # an item may stand in a window twice
    repeat = torch.randn(B, L, generator=g) * 3 * (history > 0)
    history[-1, 0], repeat[-1, 0] = N, 100.0  # the very last item of the last state
    direction = torch.randn(B, K, generator=g)
    direction[0] = 5 * rows[0]  # padding would be best
    return rows, Scores(direction, history, repeat)


def reference(rows: torch.Tensor, scores: Scores, open_: torch.Tensor) -> torch.Tensor:
    """Best open item by float64, [B]; 0 where none is."""
    q = (scores.direction.double() @ rows.double().T).scatter_add(1, scores.history, scores.repeat.double())
    q = q.masked_fill(~open_, -1e30)
    q[:, 0] = -1e30
    top, best = q.max(1)
    return torch.where(top > -1e29, best, 0)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_item_is_that_of_the_whole_product(seed: int, heavy: bool) -> None:
    rows, scores = case(seed, heavy)
    everything = torch.ones(B, N + 1, dtype=torch.bool)
    best = QuantisedRows(rows).best(scores, torch.full((B,), N))
    assert best is not None and best.tolist() == reference(rows, scores, everything).tolist()


def test_items_that_have_not_begun_have_ended_or_are_excluded_are_never_best() -> None:
    rows, scores = case(7)
    g = torch.Generator().manual_seed(1)
    begun, clock = torch.randint(0, N + 1, (B,), generator=g), torch.randint(0, 100, (B,), generator=g)
    begun[:3] = torch.tensor([0, 1, N])
    until = torch.randint(0, 130, (N + 1,), generator=g)
    open_ = (torch.arange(N + 1) <= begun[:, None]) & (until > clock[:, None])
    until[reference(rows, scores, open_)] = clock  # those that would be best end at that very moment
    open_ = (torch.arange(N + 1) <= begun[:, None]) & (until > clock[:, None])
    found = QuantisedRows(rows)
    for _ in range(3):  # the best, then the best of the others, ...
        best = found.best(scores, begun, clock, until)
        assert best is not None and best.tolist() == reference(rows, scores, open_).tolist()
        assert best[0] == 0
        favourites = best[:, None]
        scores, open_ = scores.without(favourites), open_.scatter(1, favourites, False)


def test_replaced_rows_are_searched_also_where_they_outgrow_the_scale() -> None:
    rows, scores = case(3)
    found, everything = QuantisedRows(rows), torch.ones(B, N + 1, dtype=torch.bool)
    for factor in (1.0, 0.5, 30.0):
        items = torch.randperm(N, generator=torch.Generator().manual_seed(int(factor)))[:200] + 1
        rows[items] = torch.randn(200, K, generator=torch.Generator().manual_seed(9)) * factor
        found.replace(items, rows[items])
        best = found.best(scores, torch.full((B,), N))
        assert best is not None and best.tolist() == reference(rows, scores, everything).tolist()


def test_the_lowest_of_equal_items_is_taken_and_a_catalogue_of_equal_items_is_left_to_the_product() -> None:
    rows, scores = case(4)
    scores = scores._replace(repeat=torch.zeros_like(scores.repeat))
    twins = torch.cat([rows, rows[1:]])
    best = QuantisedRows(twins).best(scores, torch.full((B,), 2 * N))
    assert best is not None and best.tolist() == reference(rows, scores, torch.ones(B, N + 1, dtype=torch.bool)).tolist()
    assert QuantisedRows(torch.ones(N + 1, K)).best(scores, torch.full((B,), N)) is None


def test_a_bound_that_is_too_narrow_would_be_noticed() -> None:
    rows, scores = case(0)
    scores = scores._replace(repeat=torch.zeros_like(scores.repeat))
    found = QuantisedRows(rows)
    found.longest = found.error = -1.0  # only the largest sums are compared
    best = found.best(scores, torch.full((B,), N))
    assert best is None or best.tolist() != reference(rows, scores, torch.ones(B, N + 1, dtype=torch.bool)).tolist()


def test_whether_this_machine_can_is_a_plain_answer() -> None:
    assert fast_bytes() in (True, False)
