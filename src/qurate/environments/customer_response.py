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
from qurate.types import SESSION_GAP_US, FloatArray

Wide = NDArray[np.float64]

SESSION_GAP_S = SESSION_GAP_US / 1e6
VISIT_WEIGHT, REPEAT_LR_SCALE = 0.2, 10.0
"""As in `networks/encoders.py` and `networks/catalogue_network.py`."""
VIEWS = 3
"""Weights with which the rows of a type are summed: two decays, and those of the present visit alike."""
_ONE = np.array(1.0)  # without a dimension, see rng.py


class Seen(NamedTuple):
    """Histories of B customers, newest event last, and what is known of them."""

    items: NDArray[np.int64]  # [B, L] 0 = padding
    types: NDArray[np.int64]  # [B, L]
    gaps: FloatArray  # [B, L] seconds to the next row, the last to the decision
    values: FloatArray  # [B, L]
    user: FloatArray  # [B, U] as the network sees them


class Sums(NamedTuple):
    """What the first layer looks at. A sum of item vectors has d + 1 numbers: d scaled ones and the sum of the weights."""

    by_type: Wide  # [B, T, VIEWS, d + 1]
    by_value: Wide | None  # [B, d + 1]; None where no row has a value
    other: Wide  # [B, U + 3] user features, context, 1


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
        self.scale, self.match = wide["scale"], wide["match"]
        self.repeat = wide["repeat"] * REPEAT_LR_SCALE
        self.decay = -np.exp(wide["log_rates"])
        self.chain, self.pair, self.told = wide["chain"], wide["pair"], wide["told"]
        self.amount, self.spread, self.slope, self.shift = (wide[name] for name in ("amount", "spread", "slope", "shift"))
        self.n_events, self.dim = len(self.amount), self.vectors.shape[1]
        self.parents = self.chain - np.eye(self.n_events)
        self.parents_of = [[int(parent) for parent in row.nonzero()[0]] for row in self.parents]
        self.has_pairs, self._is_told = bool(self.pair.any()), bool(self.told.any())
        self.order = [int(event) for event in arrays["order"]]  # in which events are decided: parents come first
        self.n_types = (len(self.scale) - 1) // VIEWS
        self._kinds = np.arange(1, self.n_types + 1)[:, None]
        self._by_type, self._by_value, self._of_other = _first_layer(wide, self.n_types)
        self.n_other = len(self._of_other)
        self._second, self._second_bias = np.ascontiguousarray(wide["layer2"].T), wide["layer2_bias"]
        self._value, self._direction = (np.column_stack([wide[name], wide[f"{name}_bias"]]) for name in ("value", "direction"))
        self._all_heads = self.last_layer(np.arange(len(self._value)))

    def last_layer(self, heads: NDArray[np.int64]) -> tuple[Wide, Wide]:
        """What makes values and directions of `heads` [H]: weights of the second layer, [hidden, H (1 + d)], and of `Sums.other`."""
        hidden = len(self._second)
        of_hidden, of_other = self._direction[:, :hidden], self._direction[:, hidden:]
        direction = (x.reshape(-1, self.dim, x.shape[1])[heads].reshape(-1, x.shape[1]) for x in (of_hidden, of_other))
        value = self._value[heads]
        bias = np.zeros((len(heads), of_other.shape[1]))
        bias[:, -1] = value[:, -1]
        return tuple(np.vstack(x).T.copy() for x in zip((value[:, :-1], bias), direction))  # type: ignore[return-value]

    def outputs(self, sums: Sums, last: tuple[Wide, Wide] | None = None) -> tuple[Wide, Wide]:
        """Values [B, H] and directions [B, H, d], without likeness and repeats; `last` of `last_layer`, None = of all heads."""
        batch, (of_hidden, of_other) = len(sums.other), self._all_heads if last is None else last
        x = sums.by_type.reshape(batch, -1) @ self._by_type
        x += sums.other @ self._of_other
        if sums.by_value is not None:
            x += sums.by_value @ self._by_value
        x = np.maximum(x, 0, out=x) @ self._second
        x += self._second_bias
        out = np.maximum(x, 0, out=x) @ of_hidden
        out += sums.other @ of_other
        heads = of_hidden.shape[1] // (1 + self.dim)
        return out[:, :heads], out[:, heads:].reshape(batch, heads, self.dim)

    def heads(self, seen: Seen) -> Heads:
        """What whole histories say, for any item."""
        weights = self._weights(seen)
        batch, groups, _ = weights.shape
        sums = np.empty((batch, groups, self.dim + 1))
        np.matmul(weights, self.vectors.take(seen.items, 0), out=sums[:, :, :-1])
        sums[:, :, :-1] *= self.scale
        weights.sum(2, out=sums[:, :, -1])
        by_type = sums[:, :-1].reshape(batch, VIEWS, -1, self.dim + 1).swapaxes(1, 2)
        other = np.concatenate([seen.user, derive_context(seen.types, seen.gaps), np.ones((batch, 1))], axis=1)
        value, direction = self.outputs(Sums(by_type, sums[:, -1], other))
        return Heads(value, direction + self.match @ sums[:, :, :-1], self.repeat @ weights, seen.items)

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
        np.multiply(worth(seen.values) / length, seen.types > 0, out=weights[:, -1])
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

    def scaled(self, logits: Wide) -> Wide:
        """Logits of events [..., R] by Platt's scaling, before what happened of the events before them is known."""
        scaled = self.slope * logits
        scaled += self.shift
        if self._is_told:
            scaled -= self.alone(logits) @ self.told.T
        return scaled

    def chance(self, event: int, scaled: Wide, happened: Wide) -> Wide:
        """Probability of an event [...] whose parents happened, given `scaled` logits [..., R] and what happened of the events before it,
        [..., R] of 0 and 1."""
        return self.chances(scaled[..., event] + happened @ self.pair[event])

    def chances(self, scaled: Wide) -> Wide:
        """The same of all events at once, where no event depends on others but its parents (`has_pairs`)."""
        minus = -scaled
        np.exp(minus, minus)
        minus += _ONE
        return np.reciprocal(minus, minus)

    def alone(self, logits: Wide) -> Wide:
        """The network's own probability of each event and of all before it, [..., R], before any scaling."""
        out: Wide = np.exp(-np.logaddexp(0, -logits) @ self.chain.T)
        return out

    def marginals(self, logits: Wide) -> Wide:
        """Probability of each event whatever else happens, [..., R]: a sum over what the events before it may be."""
        total, scaled = np.zeros_like(logits), self.scaled(logits)
        outcomes = [(np.zeros(self.n_events), np.ones(logits.shape[:-1]))]
        for event in self.order:
            grown = []
            for happened, mass in outcomes:
                may = bool(happened[self.parents_of[event]].all())
                chance = self.chance(event, scaled, np.broadcast_to(happened, logits.shape)) * may
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


def worth(values: FloatArray) -> Wide:
    """How much rows with `values` count in the sum by value: the logarithm of 1 + the value, negative for negative ones."""
    out: Wide = np.sign(values) * np.log1p(np.abs(values, dtype=np.float64))
    return out


def _first_layer(wide: Arrays, n_types: int) -> tuple[Wide, Wide, Wide]:
    """The first layer's weights of `Sums`: [T VIEWS (d + 1), hidden], [d + 1, hidden] and [U + 3, hidden]; narrowing is part of them."""
    first, narrow, groups = wide["layer1"], wide["narrow"], len(wide["scale"])
    counts, rest = groups * len(narrow), groups * (len(narrow) + 1)
    by_group = first[:, :counts].reshape(len(first), groups, -1) @ narrow
    of_sums = np.concatenate([by_group, first[:, counts:rest, None]], axis=2).transpose(1, 2, 0)  # [G, d + 1, hidden]
    by_type = of_sums[:-1].reshape(VIEWS, n_types, *of_sums.shape[1:]).swapaxes(0, 1).reshape(-1, len(first))
    return by_type.copy(), of_sums[-1].copy(), np.column_stack([first[:, rest:], wide["layer1_bias"]]).T.copy()
