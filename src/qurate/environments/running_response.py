"""A response model beside customers whose rows come one by one: what it sums over their histories is kept up, not summed anew.

A row that comes is added to the sums of its type, one that leaves the window of L rows is subtracted, and sums that fade are multiplied
by what one more row leaves of them. Repeats of what is shown are looked up. The network above the sums is `customer_response.Response`,
whose `heads` say the same of whole histories, but for the rounding of the sums.
"""

import numpy as np

from qurate.environments.customer_response import VIEWS, VISIT_WEIGHT, Response, Seen, Sums, Wide, worth
from qurate.environments.visits import Visits
from qurate.mdp.states import gap_seconds
from qurate.types import FloatArray, IntArray

ARRAYS = ("items", "types", "values", "gaps", "rows", "newest", "since", "visit", "pause", "by_type", "by_value", "other")
"""Names of the attributes that change."""
BLOCK = 1_024
"""Customers whose responses are computed at once: what they need stays in the processor's cache."""
_ONE, _NONE = np.array(1), np.array(0)  # without a dimension, see rng.py


class RunningResponse:
    """The histories of n customers, and how they respond to an item.

    Args:
        response: the model.
        window: L, rows that it looks at.
        n: customers.
        with_values: whether any row has a value.

    Attributes:
        items, types, values, gaps: [n, L] the last rows, number i of a customer at place i % L; 0 where there is none yet. A gap is that to
            the next row, or to the decision.
        rows, visit: [n] rows in all and of the present visit.
        newest: [n] flat place of the newest row.
        since: [n] microseconds from the newest row to the decision.
        pause: [n] as in `Visits`.
        by_type, by_value, other: `customer_response.Sums`.
    """

    def __init__(self, response: Response, window: int, n: int, with_values: bool) -> None:
        self.response, self.window, self.with_values = response, window, with_values
        width, kinds = response.dim + 1, response.n_types
        self.items, self.types = np.zeros((n, window), np.int32), np.zeros((n, window), np.int64)
        self.values, self.gaps = np.zeros((n, window), np.float32), np.zeros((n, window), np.float32)
        self.rows, self.since, self.visits = np.zeros(n, np.int64), np.zeros(n, np.int64), Visits(n, window)
        self.newest = np.arange(n) * window
        self.visit, self.pause = self.visits.rows, self.visits.pause
        self.by_type, self.by_value = np.zeros((n, kinds, VIEWS, width)), np.zeros((n, width))
        self.other = np.zeros((n, response.n_other))
        self.other[:, -1] = 1
        self._length, self._kinds, lanes = np.array(window), np.array(kinds + 1), np.arange(n)
        self._block = np.maximum(np.arange(kinds + 1) - 1, 0)  # of each type in the sums
        self._first_row, self._first_type = lanes * window, lanes * kinds
        self._items, self._types, self._gaps = (x.reshape(-1) for x in (self.items, self.types, self.gaps))  # views, like the next ones
        self._flat, self._of_type = self.by_type.reshape(n, -1), self.by_type.reshape(-1, VIEWS * width)
        # what one row counts in the sums of its type: its item's vector and 1, once for each view, times a number by type
        self._vector = np.column_stack([response.vectors, np.ones(len(response.vectors))])
        self._vectors = np.tile(self._vector, (1, VIEWS))
        scale = np.ones((VIEWS, kinds + 1, width))
        scale[:, 1:, :-1] = response.scale[:-1].reshape(VIEWS, kinds, -1)
        fade = np.exp(np.append(response.decay, 0))
        scale[2] *= VISIT_WEIGHT
        scale[:, 0] = 0
        self._coming = scale.swapaxes(0, 1).reshape(kinds + 1, -1)
        faded = scale * (fade**window)[:, None, None]
        earlier = np.array([1, 1, 0])[:, None, None]  # a row of an earlier visit is not in the sums of the present one
        self._leaving = np.vstack([view.swapaxes(0, 1).reshape(kinds + 1, -1) for view in (earlier * faded, faded)])
        self._fade = np.tile(np.repeat(fade, width), kinds)
        self._worth = np.append(response.scale[-1], 1) / window
        # what is looked up of each item shown, [N + 1, d + 1]
        self._centred = np.column_stack([response.centred, np.zeros(len(response.centred))])
        events = response.n_events
        self._sized = response.spread.nonzero()[0]  # events whose amounts depend on sizes
        heads = np.append(np.arange(events), events + self._sized)
        self._last = response.last_layer(heads)
        self._bias = response.bias[:, heads].copy()
        by_view, self._match_value = response.match[heads, :-1], response.match[heads, -1]
        self._match = by_view.reshape(-1, VIEWS, kinds).transpose(2, 1, 0).reshape(kinds * VIEWS, -1).copy()
        repeat = response.repeat[heads]
        decay = np.exp(response.decay[:, None] * np.arange(window))
        by_type = repeat[:, :-1].reshape(-1, VIEWS, kinds).transpose(1, 2, 0)  # [VIEWS, T, H]
        fading = sum(decay[i][:, None] * by_type[i][:, None] for i in range(2))
        self._repeat = np.concatenate([np.zeros((1, window, len(repeat))), fading])  # [T + 1, L, H] by type and rows since
        self._repeat_visit = np.vstack([np.zeros(len(repeat)), VISIT_WEIGHT * by_type[2]])
        self._repeat_value = repeat[:, -1] / window

    def enter(self, lanes: IntArray, user: FloatArray) -> None:
        """New customers in `lanes` [m], without a history; `user` [m, U] as the network sees them."""
        for name in ARRAYS:
            getattr(self, name)[lanes] = 0
        self.newest[lanes] = self._first_row[lanes]
        self.other[lanes, : user.shape[1]] = user
        self.other[lanes, -1] = 1

    def append(self, lanes: IntArray | None, items: IntArray, kind: int, values: FloatArray | None = None) -> None:
        """One more row for each of `lanes` (None: all)."""
        if lanes is None:
            rows, visit, first_row, first_type = self.rows, self.visit, self._first_row, self._first_type
            self._flat *= self._fade
        else:
            rows, visit, first_row, first_type = (x.take(lanes) for x in (self.rows, self.visit, self._first_row, self._first_type))
            self._flat[lanes] = self._flat.take(lanes, 0) * self._fade
        at = first_row + rows % self._length
        gone, gone_items = self._types.take(at), self._items.take(at)
        leaving = self._leaving.take(gone + self._kinds * (visit >= self._length), 0)
        leaving *= self._vectors.take(gone_items, 0)
        place = first_type + self._block.take(gone)
        self._of_type[place] = np.subtract(self._of_type.take(place, 0), leaving, leaving)
        coming = self._vectors.take(items, 0)
        coming *= self._coming[kind]
        if lanes is None:
            self.by_type[:, kind - 1] += coming.reshape(len(coming), VIEWS, -1)
        else:
            self._of_type[first_type + (kind - 1)] += coming
        if self.with_values:
            self._append_value(lanes, at, items, gone_items, values)
        self._items[at], self._types[at], self._gaps[at] = items, kind, 0
        if lanes is None:
            self.rows += _ONE
            self.newest[:] = at
            self.since.fill(0)
        else:
            self.rows[lanes], self.newest[lanes], self.since[lanes] = rows + _ONE, at, 0
        self.visits.row(lanes)

    def _append_value(self, lanes: IntArray | None, at: IntArray, items: IntArray, gone_items: IntArray, values: FloatArray | None) -> None:
        """The same of the sum by value; `at` [m] flat places of the rows in their rings."""
        flat = self.values.reshape(-1)
        change = worth(flat.take(at))[:, None] * -self._vector.take(gone_items, 0)
        if values is not None:
            change += worth(values)[:, None] * self._vector.take(items, 0)
        self.by_value[slice(None) if lanes is None else lanes] += change * self._worth
        flat[at] = 0 if values is None else values

    def wait(self, microseconds: IntArray) -> None:
        """So long [n] until the next decision; where it is a pause, a new visit begins."""
        self.since += microseconds
        gap = gap_seconds(self.since)
        gap *= self.rows > _NONE
        self._gaps[self.newest] = gap
        paused = self.visits.gap(None, gap)
        if paused.size:
            self.by_type[paused, :, -1] = 0
        self.other[:, -3:-1] = self.visits.context()

    def answers(self, items: IntArray) -> tuple[Wide, Wide]:
        """Logits (before Platt's scaling) and sizes of `items` [n, K] shown now, each [n, K, R]; sizes that no amount depends on are 0."""
        n, shown = items.shape
        events = self.response.n_events
        out = np.empty((n, shown, self._bias.shape[1]))
        for first in range(0, n, BLOCK):
            block = slice(first, first + BLOCK)
            self._answer(items[block], block, out[block])
        self._add_repeats(items, out)
        sizes = np.zeros((n, shown, events))
        if self._sized.size:
            sizes[:, :, self._sized] = out[:, :, events:]
        return out[:, :, :events], sizes

    def _answer(self, items: IntArray, block: slice, out: Wide) -> None:
        """What customers in `block` answer to `items` [m, K] without repeats, by head: fills `out` [m, K, H]."""
        by_type = self.by_type[block]
        by_value = self.by_value[block] if self.with_values else None
        value, direction = self.response.outputs(Sums(by_type, by_value, self.other[block]), self._last)
        vectors = self._centred.take(items, 0)
        np.matmul(vectors[:, :, :-1], direction.transpose(0, 2, 1), out)
        alike = np.matmul(by_type.reshape(len(items), -1, vectors.shape[2]), vectors.transpose(0, 2, 1))
        out += (alike.transpose(0, 2, 1).reshape(-1, len(self._match)) @ self._match).reshape(out.shape)
        out += self._bias.take(items, 0)
        out += value[:, None]
        if by_value is not None:
            out += np.matmul(vectors, by_value[:, :, None]) * self._match_value

    def _add_repeats(self, items: IntArray, out: Wide) -> None:
        """What rows of the same items as `items` [n, K] add to `out` [n, K, H]."""
        same = (items[:, :, None] == self.items[:, None]).reshape(-1).nonzero()[0]
        if not same.size:
            return
        shown, slot = np.divmod(same, self.window)  # `shown` ascends
        lane = shown // items.shape[1]
        at = self._first_row.take(lane) + slot
        kind, since = self._types.take(at), (self.rows.take(lane) - _ONE - slot) % self._length
        more = self._repeat[kind, since]
        more += self._repeat_visit.take(kind, 0) * (since < self.visit.take(lane))[:, None]
        if self.with_values:
            more += worth(self.values.reshape(-1).take(at))[:, None] * self._repeat_value
        first = np.append(0, 1 + np.diff(shown).nonzero()[0])
        out.reshape(-1, out.shape[2])[shown[first]] += np.add.reduceat(more, first)

    def seen(self) -> Seen:
        """The whole histories, newest row last."""
        place = (self.rows[:, None] + np.arange(self.window)) % self.window
        row = np.arange(len(place))[:, None]
        items, types, gaps, values = self.items[row, place], self.types[row, place], self.gaps[row, place], self.values[row, place]
        return Seen(items.astype(np.int64), types, gaps, values, self.other[:, :-3].astype(np.float32))
