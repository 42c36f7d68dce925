"""What features of a candidate in this decision add to its value (mdp/candidate_features.py)."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn


class CandidateLayers(nn.Module):
    """Two layers over the features, standardised, for each kind of head; the last one begins at zero: at first they add nothing.

    Args:
        width: F.
        hidden: units of each layer.
        heads: of each kind (`now`, then `later`, whose errors are many times larger and would decide alone on shared layers); their
            sum is H.
        behaviour: layers of their own for the behaviour head too.
    """

    def __init__(self, width: int, hidden: int, heads: Sequence[int], behaviour: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.kinds = nn.ModuleList(_layers(width, hidden, n) for n in heads)
        self.choice = _layers(width, hidden, 1) if behaviour else None

    @property
    def standardised(self) -> bool:
        """Whether mean and scale have been set."""
        return bool(self.get_buffer("mean").any())

    @torch.no_grad()
    def standardise(self, features: Tensor, least_spread: float = 0.0) -> None:
        """Sets mean and scale from features [M, F] of the training split; what is constant there is read as its mean for ever.

        Args:
            least_spread: at least so much counts as the standard deviation; with it, what is constant now may vary later.
        """
        known = torch.isfinite(features)
        count = known.sum(0).clamp(min=1)
        mean = torch.where(known, features, 0).sum(0) / count
        spread = (torch.where(known, features - mean, 0).square().sum(0) / count).sqrt().clamp(min=least_spread)
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("scale").copy_(torch.where(spread > 1e-6, 1 / spread.clamp(min=1e-6), 0))

    def forward(self, features: Tensor | None) -> Tensor:
        """float32 [..., H] from [..., F], NaN = not known; None: [H] of the mean candidate."""
        x = torch.zeros_like(self.get_buffer("mean")) if features is None else self._standardised(features)
        return torch.cat([kind(x) for kind in self.kinds], dim=-1)

    def of_choice(self, features: Tensor) -> Tensor:
        """What is added to the logits of the behaviour head, float32 [...] from [..., F]; 0 without one."""
        return self._choice(self._standardised(features))

    @torch.no_grad()
    def value_and_choice(self) -> Callable[[Tensor], Tensor]:
        """Features [M, F] -> what is added to Q and to the logits of the behaviour head, float32 [M, 2], by the weights of now.

        All kinds share the product of the first layer, and the heads of a kind, which are only added, are one.
        """
        stacks = [cast(nn.Sequential, kind) for kind in (*self.kinds, *([] if self.choice is None else [self.choice]))]
        firsts, seconds, lasts = ([cast(nn.Linear, stack[place]) for stack in stacks] for place in (0, 2, 4))
        first, first_bias = torch.cat([one.weight for one in firsts]), torch.cat([one.bias for one in firsts])
        choice = [int(place >= len(self.kinds)) for place in range(len(stacks))]
        last = first.new_zeros(len(stacks), 2, lasts[0].in_features)
        bias = first.new_zeros(2)
        for place, one in enumerate(lasts):
            last[place, choice[place]] = one.weight.sum(0)
            bias[choice[place]] += one.bias.sum()

        def added(features: Tensor) -> Tensor:
            x = nn.functional.linear(self._standardised(features), first, first_bias).relu_()
            out = bias.expand(len(x), 2)
            for part, second, head in zip(torch.chunk(x, len(seconds), dim=1), seconds, last):
                out = torch.addmm(out, second(part).relu_(), head.T)
            return out

        return added

    def _choice(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[:-1]) if self.choice is None else self.choice(x)[..., 0]

    def _standardised(self, features: Tensor) -> Tensor:
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        return torch.nan_to_num((features - mean) * scale).clamp(-10, 10)


def _layers(width: int, hidden: int, n_heads: int) -> nn.Sequential:
    last = nn.Linear(hidden, n_heads)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last)
