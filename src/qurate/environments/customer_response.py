"""How customers learned from a log respond to an item: probabilities of events, and their values.

The network is that of `networks/event_network.py` over `networks/catalogue_network.py` (encoder "mean"), fitted by
`training/fit_customers.py`; its weights are read here as arrays, so that a world needs no torch and runs in forked processes.
With z(s) two layers over sums of the history's item vectors, each item a and event i has a logit

    l_i(s, a) = V_i(z) + u_i(z) . (e_a - e_mean) + b_ia - b_i,mean + r_i(s, a)

and an event happens, after all events before it in the order of the log (its parents) happened, with probability

    P(i | s, a, what happened before) = sigmoid(slope_i l_i + shift_i + sum_j (pair_ij happened_j - told_ij q_j))

where q_j is the network's own probability of event j, decided before i: that it was likely says less than that it happened. Slope,
shift, pair and told are Platt's scaling (1999) with such terms, on held-out decisions. Sums are in
float64: the probability that a response depends on how many customers are simulated at once is below 1e-12 a number drawn.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qurate.environments.fitted_customers import Arrays
from qurate.mdp.states import derive_context
from qurate.types import SESSION_GAP_US, FloatArray, take_rows

Wide = NDArray[np.float64]

SESSION_GAP_S = SESSION_GAP_US / 1e6
VISIT_WEIGHT, REPEAT_LR_SCALE = 0.2, 10.0
"""As in `networks/encoders.py` and `networks/catalogue_network.py`."""
BLOCK = 256
"""Customers whose sums are computed at once: what they need stays in the processor's cache."""


class Seen(NamedTuple):
    """Histories of B customers, newest event last, and what is known of them."""

    items: NDArray[np.int64]  # [B, L] 0 = padding
    types: NDArray[np.int64]  # [B, L]
    gaps: FloatArray  # [B, L] seconds to the next row, the last to the decision
    values: FloatArray  # [B, L]
    user: FloatArray  # [B, U] as the network sees them


class Heads(NamedTuple):
    """Per customer, H = 2 R heads: logits, then sizes of values."""

    value: Wide  # [B, H]
    direction: Wide  # [B, H, d]
    repeat: Wide  # [B, H, L]
    history: NDArray[np.int64]  # [B, L]


class Response:
    """The response model of R events over N items.

    Args:
        arrays: of the fit, by name: the network's weights and `chain`, `amount`, `spread`, `order`,
            `slope`, `shift`, `pair`, `told`.
    """

    def __init__(self, arrays: Arrays) -> None:
        wide = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        self.vectors, self.centred, self.bias = wide["vectors"], wide["centred"], wide["bias"]
        self.scale, self.narrow, self.match = wide["scale"], wide["narrow"], wide["match"]
        self.repeat = wide["repeat"] * REPEAT_LR_SCALE
        self.layers = [(wide[f"layer{i}"], wide[f"layer{i}_bias"]) for i in (1, 2)]
        self.value, self.direction = ((wide[name], wide[f"{name}_bias"]) for name in ("value", "direction"))
        self.decay = -np.exp(wide["log_rates"])
        self.chain, self.pair, self.told = wide["chain"], wide["pair"], wide["told"]
        self.amount, self.spread, self.slope, self.shift = (wide[name] for name in ("amount", "spread", "slope", "shift"))
        self.n_events, self.dim = len(self.amount), self.vectors.shape[1]
        self.parents = self.chain - np.eye(self.n_events)
        self._has_parents, self._is_told = ([bool(row.any()) for row in rows] for rows in (self.parents, self.told))
        self.order = [int(event) for event in arrays["order"]]  # in which events are decided: parents come first
        self.n_types = (len(self.scale) - 1) // 3
        self._kinds = np.arange(1, self.n_types + 1)[:, None]
        groups, (first, _) = len(self.scale), self.layers[0]
        by_group = first[:, : groups * len(self.narrow)].reshape(len(first), groups, -1)
        of_sums = (by_group @ self.narrow).reshape(len(first), -1)  # narrow and the first layer are one product
        self._of_sums, self._of_rest, self._second, self._of_value, self._of_direction = (
            np.ascontiguousarray(x.T)
            for x in (of_sums, first[:, groups * len(self.narrow) :], self.layers[1][0], self.value[0], self.direction[0])
        )

    def heads(self, seen: Seen) -> Heads:
        """What the histories say, for any item."""
        batch, length = seen.types.shape
        weights = self._weights(seen)
        sums = np.matmul(weights, self.vectors.take(seen.items, 0))  # [B, G, d]
        sums *= self.scale
        counts = (weights.reshape(-1, length) @ np.ones(length)).reshape(batch, -1)
        other = np.concatenate([seen.user, derive_context(seen.types, seen.gaps)], axis=1)
        x = sums.reshape(batch, -1) @ self._of_sums
        x += np.concatenate([counts, other], axis=1) @ self._of_rest
        x += self.layers[0][1]
        x = np.maximum(x, 0, out=x) @ self._second
        x += self.layers[1][1]
        np.maximum(x, 0, out=x)
        value = x @ self._of_value + self.value[1]
        direction = np.concatenate([x, other], axis=1) @ self._of_direction + self.direction[1]
        return Heads(value, direction.reshape(batch, -1, self.dim) + self.match @ sums, self.repeat @ weights, seen.items)

    def answers(self, seen: Seen, items: NDArray[np.int64]) -> tuple[Wide, Wide]:
        """`raw` of items [B, K], each [B, K, R], for any number of customers, some after the others."""
        if len(items) <= BLOCK:
            return self.raw(self.heads(seen), items)
        blocks = [slice(first, first + BLOCK) for first in range(0, len(items), BLOCK)]
        logits, sizes = zip(*(self.raw(self.heads(take_rows(seen, rows)), items[rows]) for rows in blocks))
        return np.concatenate(logits), np.concatenate(sizes)

    def _weights(self, seen: Seen) -> Wide:
        """Weights of the L rows in G sums, [B, G, L]: by type with two decays and within the visit, and by value."""
        batch, length = seen.types.shape
        place = np.arange(1, length + 1)
        decay = np.exp(self.decay[:, None] * (length - place))
        last_pause = np.where(seen.gaps >= SESSION_GAP_S, place, 0).max(1, keepdims=True)
        visit = VISIT_WEIGHT * (place > last_pause)
        of_type, kinds = seen.types[:, None] == self._kinds, self.n_types
        weights = np.empty((batch, 3 * kinds + 1, length))
        np.multiply(of_type, decay[0], out=weights[:, :kinds])
        np.multiply(of_type, decay[1], out=weights[:, kinds : 2 * kinds])
        np.multiply(of_type, visit[:, None], out=weights[:, 2 * kinds : -1])
        scaled = np.sign(seen.values) * np.log1p(np.abs(seen.values, dtype=np.float64)) * (seen.types > 0)
        np.divide(scaled, length, out=weights[:, -1])
        return weights

    def raw(self, heads: Heads, items: NDArray[np.int64]) -> tuple[Wide, Wide]:
        """Logits (before Platt's scaling) and sizes of items [B, K], each [B, K, R]."""
        same = (items[:, :, None] == heads.history[:, None]).astype(np.float64)
        out = np.matmul(self.centred[items], heads.direction.transpose(0, 2, 1)) + self.bias[items] + heads.value[:, None]
        out += np.matmul(same, heads.repeat.transpose(0, 2, 1))
        return out[..., : self.n_events], out[..., self.n_events :]

    def raw_of_all(self, heads: Heads) -> tuple[Wide, Wide]:
        """The same of all items 1..N, [B, N, R]."""
        rows = np.arange(len(heads.value))[:, None]
        out = np.matmul(self.centred, heads.direction.transpose(0, 2, 1)) + self.bias + heads.value[:, None]
        np.add.at(out, (rows, heads.history), heads.repeat.transpose(0, 2, 1))
        return out[:, 1:, : self.n_events], out[:, 1:, self.n_events :]

    def chance(self, event: int, logits: Wide, happened: Wide, alone: Wide | None = None) -> Wide:
        """Probability of an event [...] given logits [..., R] and what happened of the events before it, [..., R] of 0 and 1.

        Args:
            alone: `alone(logits)`, where it is known.
        """
        logit = self.slope[event] * logits[..., event] + self.shift[event] + happened @ self.pair[event]
        if self._is_told[event]:
            logit = logit - (self.alone(logits) if alone is None else alone) @ self.told[event]
        out: Wide = 1 / (1 + np.exp(-logit))
        return out * ((1 - happened) @ self.parents[event] == 0) if self._has_parents[event] else out

    def alone(self, logits: Wide) -> Wide:
        """The network's own probability of each event and of all before it, [..., R], before any scaling."""
        out: Wide = np.exp(-np.logaddexp(0, -logits) @ self.chain.T)
        return out

    def marginals(self, logits: Wide) -> Wide:
        """Probability of each event whatever else happens, [..., R]: a sum over what the events before it may be."""
        total = np.zeros_like(logits)
        outcomes = [(np.zeros(self.n_events), np.ones(logits.shape[:-1]))]
        for event in self.order:
            grown = []
            for happened, mass in outcomes:
                chance = self.chance(event, logits, np.broadcast_to(happened, logits.shape))
                total[..., event] += mass * chance
                if self._matters(event):
                    grown.append((happened + np.eye(self.n_events)[event], mass * chance))
                    mass = mass * (1 - chance)
                grown.append((happened, mass))
            outcomes = grown
        return total

    def _matters(self, event: int) -> bool:
        """Whether another event depends on this one."""
        return bool(self.parents[:, event].any() or self.pair[:, event].any())

    def amounts(self, sizes: Wide) -> Wide:
        """Expected amount of each event where it happens, [..., R], in units of its reward."""
        return self.amount + self.spread * sizes

    def expected(self, logits: Wide, sizes: Wide) -> Wide:
        """Expected amount by event, [..., R]."""
        return self.marginals(logits) * self.amounts(sizes)
