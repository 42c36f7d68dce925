"""The blockwise maximum against the plain one."""

import pytest
import torch

from qurate.networks import catalogue_max as select
from qurate.networks.catalogue_max import best_item
from qurate.networks.catalogue_values import Scores


def plain(q: Scores, rows: torch.Tensor, available: torch.Tensor, behaviour: Scores | None, threshold: float) -> torch.Tensor:
    mask = torch.arange(len(rows))[None] <= available[:, None]
    mask[:, 0] = False
    if behaviour is not None and threshold > 0:
        p = written_out(behaviour, rows).masked_fill(~mask, -torch.inf).softmax(1)
        mask &= p >= threshold * p.amax(1, keepdim=True)
    return written_out(q, rows).masked_fill(~mask, -torch.inf).argmax(1)


def written_out(scores: Scores, rows: torch.Tensor) -> torch.Tensor:
    out = scores.direction @ rows.T
    for row in range(len(out)):
        for item, more in zip(scores.history[row].tolist(), scores.repeat[row].tolist()):
            out[row, item] += more
    return out


def linear(direction: torch.Tensor) -> Scores:
    """Scores of states without a history."""
    return Scores(direction, torch.zeros(len(direction), 1, dtype=torch.int64), torch.zeros(len(direction), 1))


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("items", [3, 64, 1000])
def test_blocks_equal_the_plain_maximum(items: int, threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "BLOCK", 17)
    monkeypatch.setattr(select, "ROWS", 20)
    monkeypatch.setattr(select, "SCORES", 0)
    generator = torch.Generator().manual_seed(items)
    rows = torch.randn(items + 1, 8, generator=generator)
    history = torch.randint(0, items + 1, (32, 5), generator=generator)
    q, b = (
        Scores(torch.randn(32, 8, generator=generator), history, torch.randn(32, 5, generator=generator) * 4 * (history > 0))
        for _ in range(2)
    )
    for available in (torch.full((32,), items), torch.randint(1, items + 1, (32,), generator=generator)):
        assert torch.equal(best_item(q, rows, available, b, threshold), plain(q, rows, available, b, threshold))


def test_support_by_hand() -> None:
    """pi_b = .5 .3 .04 .16; with threshold .3 the third item is out, whatever its q; without the first, .16 sets the scale."""
    rows = torch.stack([torch.tensor([9.0, 0.0, 1.0, 5.0, 2.0]), torch.log(torch.tensor([1.0, 0.5, 0.3, 0.04, 0.16]))], 1)
    q, behaviour = linear(torch.tensor([[1.0, 0.0]])), linear(torch.tensor([[0.0, 1.0]]))
    assert best_item(q, rows, torch.tensor([4]), behaviour, 0.3).item() == 4
    assert best_item(q, rows, torch.tensor([4]), behaviour, 0.05).item() == 3
    assert best_item(q, rows, torch.tensor([2]), behaviour, 0.3).item() == 2
    assert best_item(q, rows, torch.tensor([4]), None).item() == 3


def test_repeating_can_lift_an_item_and_push_it_down() -> None:
    """q = 0 1 5 2; the third twice in the window at -2.5 each falls to 0, the first at +3 wins."""
    rows = torch.tensor([[9.0], [0.0], [1.0], [5.0], [2.0]])
    window = torch.tensor([[3, 1, 3]])
    assert best_item(Scores(torch.ones(1, 1), window, torch.tensor([[-2.5, 0.0, -2.5]])), rows, torch.tensor([4])).item() == 4
    assert best_item(Scores(torch.ones(1, 1), window, torch.tensor([[-2.5, 3.0, -2.5]])), rows, torch.tensor([4])).item() == 1
