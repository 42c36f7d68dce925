"""The blockwise maximum against the plain one."""

import pytest
import torch

from qurate.qlearning import select
from qurate.qlearning.select import best_item


def plain(
    q: torch.Tensor, vectors: torch.Tensor, available: torch.Tensor, behaviour: torch.Tensor | None, threshold: float
) -> torch.Tensor:
    scores = q @ vectors.T
    mask = torch.arange(len(vectors))[None] <= available[:, None]
    mask[:, 0] = False
    if behaviour is not None and threshold > 0:
        p = (behaviour @ vectors.T).masked_fill(~mask, -torch.inf).softmax(1)
        mask &= p >= threshold * p.amax(1, keepdim=True)
    return scores.masked_fill(~mask, -torch.inf).argmax(1)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("items", [3, 64, 1000])
def test_blocks_equal_the_plain_maximum(items: int, threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "BLOCK", 17)
    generator = torch.Generator().manual_seed(items)
    vectors = torch.randn(items + 1, 8, generator=generator)
    q, b = (torch.randn(32, 8, generator=generator) for _ in range(2))
    for available in (torch.full((32,), items), torch.randint(1, items + 1, (32,), generator=generator)):
        assert torch.equal(best_item(q, vectors, available, b, threshold), plain(q, vectors, available, b, threshold))


def test_support_by_hand() -> None:
    """pi_b = .5 .3 .04 .16; with threshold .3 the third item is out, whatever its q; without the first, .16 sets the scale."""
    vectors = torch.stack([torch.tensor([9.0, 0.0, 1.0, 5.0, 2.0]), torch.log(torch.tensor([1.0, 0.5, 0.3, 0.04, 0.16]))], 1)
    q, behaviour = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert best_item(q, vectors, torch.tensor([4]), behaviour, 0.3).item() == 4
    assert best_item(q, vectors, torch.tensor([4]), behaviour, 0.05).item() == 3
    assert best_item(q, vectors, torch.tensor([2]), behaviour, 0.3).item() == 2
    assert best_item(q, vectors, torch.tensor([4]), None).item() == 3
