"""Q-networks of tasks without a catalogue: vectors, integers and pixels in, one value per action out."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from qurate.environments.observation_layout import TaskSpec
from qurate.networks.catalogue_max import MASKED_VALUE
from qurate.networks.noisy import linear, run
from qurate.networks.values import StateTensors
from qurate.types import OpenActions

CATEGORY_DIM = 16
"""Dimensions of the embedding of an integer."""
LARGE_SIDE = 36
"""Images whose shorter side has so many pixels are large."""


class DenseValues:
    """`ActionValues` of B states whose action heads are all computed: [B, N + 1, H], row 0 = no action."""

    def __init__(self, heads: Tensor) -> None:
        self.heads = heads

    def by_head(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """float32 [B, K, H] of actions [B, K]; actions of a task have no features."""
        return self.heads.gather(1, actions[:, :, None].expand(-1, -1, self.heads.shape[2]))

    def of(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Q, float32 [B, K], of actions [B, K]."""
        return self.by_head(actions).sum(2)

    def all(self) -> Tensor:
        """Q, float32 [B, N + 1]."""
        return self.heads.sum(2)

    def best(self, open_actions: OpenActions[Tensor], support: float = 0.0) -> Tensor:
        """See `ActionValues.best`."""
        return best_of(self.all(), open_actions)

    def soft_maximum(self, open_actions: OpenActions[Tensor], temperature: float, support: float = 0.0) -> Tensor:
        """temperature * log sum exp(Q / temperature) over the open actions, float32 [B]; 0 where none is open."""
        q = masked_q(self.all(), open_actions)
        soft = temperature * torch.logsumexp(q / temperature, 1)
        return torch.where(q.amax(1) > MASKED_VALUE, soft, 0)


def best_of(q: Tensor, open_actions: OpenActions[Tensor]) -> Tensor:
    """argmax over the open actions, int64 [B], of q [B, N + 1]; 0 where none is open."""
    peak, best = masked_q(q, open_actions).max(1)
    return torch.where(peak > MASKED_VALUE, best, 0)


def masked_q(q: Tensor, open_actions: OpenActions[Tensor]) -> Tensor:
    """q [B, N + 1] with MASKED_VALUE for what is not open, and for column 0."""
    closed = torch.zeros_like(q, dtype=torch.bool)
    if open_actions.clock is not None and open_actions.since is not None:
        clock = open_actions.clock[:, None]
        closed |= open_actions.since > clock
        if open_actions.until is not None:
            closed |= open_actions.until <= clock
    if open_actions.excluded is not None:
        closed = closed.scatter(1, open_actions.excluded, True)
    if open_actions.candidates is not None:  # a list stands in place of what the clock says
        listed = open_actions.candidates
        outside = torch.ones_like(closed).scatter_(1, listed, False)
        closed = torch.where((listed > 0).any(1, keepdim=True), outside, closed)
    if open_actions.mask is not None:
        closed |= ~open_actions.mask
    closed[:, 0] = True
    return q.masked_fill(closed, MASKED_VALUE)


class DenseNetwork(nn.Module):
    """Torso and action heads.

    Args:
        spec: of the task.
        filters: of the first convolution of large images; the others have twice as many (32 and 64 in Mnih et al. 2015).
        hidden: units of each of the two layers; after convolutions there is one, as in Mnih et al. 2015.
        n_heads: H outputs per action: 1 value, or the logits of a distribution.
        dueling: value and advantages in streams of their own, Q = V + A - mean A (Wang et al. 2016, arXiv:1511.06581, eq. 9).
        sigma0: noise of the layers behind the torso (`noisy.py`); 0 = none.
    """

    n_components, form = 1, "single"

    def __init__(
        self, spec: TaskSpec, *, hidden: int, n_heads: int = 1, dueling: bool = False, sigma0: float = 0.0, filters: int = 32
    ) -> None:
        super().__init__()
        self.spec, self.n_heads = spec, n_heads
        self.embeddings = nn.ModuleList(nn.Embedding(count, CATEGORY_DIM) for count in spec.categories)
        shape = spec.numbers_shape
        pixels, width = (convolutions(shape, filters), conv_width(shape, filters)) if len(shape) == 3 else (None, math.prod(shape))
        self.pixels = pixels
        width += CATEGORY_DIM * len(spec.categories)
        if pixels is None:
            self.torso = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        else:
            self.torso = nn.Sequential(nn.Linear(width, hidden), nn.ReLU())
        outputs = spec.n_actions * n_heads
        self.advantage, self.value = (_stream(hidden, n, sigma0) if dueling else None for n in (outputs, n_heads))
        self.q = None if dueling else linear(hidden, outputs, sigma0)

    def bind(self, rng: torch.Generator | None = None) -> Callable[[StateTensors], DenseValues]:
        """See `ValueNetwork.bind`; nothing here is common to all states."""
        return lambda state: DenseValues(nn.functional.pad(self.action_heads(state, rng), (0, 0, 1, 0)))

    def action_heads(self, state: StateTensors, rng: torch.Generator | None = None, modulation: Tensor | None = None) -> Tensor:
        """float32 [B, N, H] of the N actions.

        Args:
            modulation: float32 [B, M, hidden], factors of what the torso gives (`implicit_quantiles.py`): then [B, M, N, H].
        """
        numbers = state.numbers
        if self.pixels is not None:  # convolutions are faster with the channels innermost, and bytes are moved sooner than floats
            numbers = self.pixels(numbers.contiguous(memory_format=torch.channels_last).float().div_(255))
        parts = [numbers.flatten(1).float(), *(embed(state.categories[:, i]) for i, embed in enumerate(self.embeddings))]
        z = self.torso(torch.cat(parts, dim=1))
        z = z if modulation is None else z[:, None] * modulation
        shape = (*z.shape[:-1], self.spec.n_actions, self.n_heads)
        if self.q is not None:
            return run(self.q, z, rng).view(shape)
        assert self.value is not None and self.advantage is not None
        advantage = run(self.advantage, z, rng).view(shape)
        return run(self.value, z, rng).unsqueeze(-2) + advantage - advantage.mean(-2, keepdim=True)


def _stream(hidden: int, outputs: int, sigma0: float) -> nn.Sequential:
    return nn.Sequential(linear(hidden, hidden, sigma0), nn.ReLU(), linear(hidden, outputs, sigma0))


def layer_sizes(shape: Sequence[int], filters: int = 32) -> tuple[tuple[int, int, int], ...]:
    """(channels, kernel, stride) of each convolution: those of Mnih et al. (2015) for large images, small ones below."""
    if min(shape[1:]) >= LARGE_SIDE:
        return ((filters, 8, 4), (2 * filters, 4, 2), (2 * filters, 3, 1))
    return ((16, 3, 1), (32, 3, 2)) if min(shape[1:]) >= 7 else ((16, 1, 1),)


def convolutions(shape: Sequence[int], filters: int = 32) -> nn.Sequential:
    """Convolutions over [B, C, H, W]."""
    layers: list[nn.Module] = []
    channels = shape[0]
    for out, kernel, stride in layer_sizes(shape, filters):
        layers += [nn.Conv2d(channels, out, kernel, stride), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers, nn.Flatten())


def conv_width(shape: Sequence[int], filters: int = 32) -> int:
    """Numbers that come out of the convolutions for one image."""
    channels, height, width = shape
    for out, kernel, stride in layer_sizes(shape, filters):
        channels, height, width = out, (height - kernel) // stride + 1, (width - kernel) // stride + 1
    return channels * height * width
