"""The best item of a large catalogue, found among bytes and compared in float32: exact, in a quarter of the time of a product.

Item rows and directions are rounded to integers of 8 bits, whose products are sums of integers. How far such a sum can be from the
score is known for each state, so every item that could be the best one is among those whose sum comes within twice that distance
of the largest. They are few, and only they are compared in float32.
"""

from functools import cache

import torch
from torch import Tensor

from qurate.networks.catalogue_max import MASKED_VALUE, FactoredScores

ITEMS = 50_000
"""Catalogues above this size are searched like this; below, the product is no longer than the rest of an update."""
BLOCK, GROUP = 2_048, 32
"""Sums are computed for so many items at a time, and only the largest of each group is kept."""
LARGEST = 127
CLOSED = -(1 << 24)
"""Sum of an item that is not open: below all others (68 * 127^2 < 2^21), and far from the end of 32 bits when it counts twice."""
MOST_BONUS = 1 << 21
CACHED = 128
MOST_GROUPS = 64
"""Groups compared per state in the mean; where it would be more (all items alike), the whole product is no slower."""


@cache
def fast_bytes() -> bool:
    """Whether this processor multiplies bytes quickly and without saturation: before VNNI, pairs of products were added in 16 bits."""
    most = torch.full((32, 64), LARGEST, dtype=torch.int8)
    try:
        known = bool(torch.backends.mkldnn.is_available()) and torch.cpu._is_vnni_supported()  # type: ignore[no-untyped-call]
        exact = [torch._int_mm(most, sign * most.T.contiguous()) == sign * 64 * LARGEST**2 for sign in (1, -1)]
    except (AttributeError, RuntimeError):  # another version, or another machine
        return False
    return known and all(bool(part.all()) for part in exact)


class QuantisedRows:
    """Item rows in float32 and as bytes.

    Row i, column j is scale_j (code_ij + error_ij), |error_ij| <= 1/2.

    Args:
        rows: float32 [N + 1, K]; row 0 is padding. Adding the same to all rows changes no maximum, so they need not be centred.
    """

    def __init__(self, rows: Tensor) -> None:
        self.width, self.count = rows.shape[1], len(rows)
        self.rows = torch.nn.functional.pad(rows, (0, -rows.shape[1] % 4, 0, -len(rows) % GROUP))  # the product likes whole words
        self._code_all()

    def _code_all(self) -> None:
        most = torch.maximum(-self.rows.amin(0), self.rows.amax(0))
        room = 1.25 / LARGEST  # for rows that grow; columns that are small by now (biases, which begin at 0) get more
        self.scale = (most * room).clamp_(min=max(float(most.max()) * room / 8, 1e-12))
        self.codes = torch.empty(self.rows.shape, dtype=torch.int8)
        self.longest = self.error = 0.0
        for first in range(0, len(self.rows), BLOCK):
            self._code(slice(first, first + BLOCK), self.rows[first : first + BLOCK])

    def _code(self, where: slice | Tensor, rows: Tensor) -> bool:
        """Codes of these rows; False where one does not fit."""
        exact = rows / self.scale
        code = exact.round()
        if float(code.abs().amax()) > LARGEST:
            return False
        self.codes[where] = code.to(torch.int8)
        self.longest = max(self.longest, float(code.square().sum(1).amax().sqrt()))
        self.error = max(self.error, float(exact.sub_(code).square_().sum(1).amax().sqrt()))
        return True

    def replace(self, items: Tensor, rows: Tensor) -> None:
        """New rows float32 [n, K] of n different items."""
        rows = torch.nn.functional.pad(rows, (0, self.rows.shape[1] - self.width))
        self.rows[items] = rows
        if not self._code(items, rows):
            self._code_all()

    @torch.no_grad()
    def best(self, scores: FactoredScores, begun: Tensor, clock: Tensor | None = None, until: Tensor | None = None) -> Tensor | None:
        """See `catalogue_max.best_item`; None where the search would not pay.

        With direction u' = u * scale = step (code + rest): score / step = sum of codes + rest . codes of the row + u' . errors / step,
        and the last two are bounded by products of norms (Cauchy-Schwarz).
        """
        direction = torch.nn.functional.pad(scores.direction, (0, self.rows.shape[1] - self.width))
        scaled = direction * self.scale
        step = (scaled.abs().amax(1, keepdim=True) / LARGEST).clamp_(min=1e-30)
        exact = scaled / step
        code, bonus = exact.round(), scores.repeat / step
        if float(bonus.amax()) > MOST_BONUS:
            return None
        slack = (exact - code).norm(dim=1) * self.longest + exact.norm(dim=1) * self.error
        slack += (bonus != 0).sum(1) / 2 + 1  # bonuses are rounded too
        closed = _Closed(begun, clock, until)
        peaks = self._peaks(code.to(torch.int8), scores.history, bonus, closed)
        limit = (peaks.amax(0) - 2.002 * slack).clamp_(min=CLOSED / 2)
        found = _places(peaks >= limit.floor().to(torch.int32))
        if len(found) > MOST_GROUPS * len(begun):
            return None
        group, row = found // len(begun), found % len(begun)
        values = self._scores(group, direction.index_select(0, row))
        _add_bonus(values, group, row, scores, len(peaks))
        numbers = group[:, None] * GROUP + torch.arange(GROUP)
        values.masked_fill_(closed.at(numbers, row[:, None]), MASKED_VALUE)
        return _best_of_rows(values, numbers, row, len(begun))

    def _scores(self, group: Tensor, direction: Tensor) -> Tensor:
        """Of the items of groups [P] and directions [P, K], float32 [P, GROUP]; so many at a time as stay in the cache."""
        rows = self.rows.view(-1, GROUP * direction.shape[1])
        parts = [
            rows.index_select(0, some).view(-1, GROUP, direction.shape[1]).mul_(towards[:, None]).sum(2)
            for some, towards in zip(torch.split(group, CACHED), torch.split(direction, CACHED))
        ]
        return torch.cat(parts) if parts else direction.new_zeros(0, GROUP)

    def _peaks(self, code: Tensor, history: Tensor, bonus: Tensor, closed: "_Closed") -> Tensor:
        """Largest sum of codes, bonus included, in each group: int32 [groups, B]."""
        states, first_begun = len(code), int(closed.begun.min())
        where = torch.nonzero(bonus.flatten())[:, 0]
        item, order = history.flatten()[where].sort()
        where = where[order]
        place, added = item * states + where // history.shape[1], bonus.flatten()[where].clamp(min=CLOSED).round().to(torch.int32)
        firsts = list(range(0, min(len(self.codes), int(closed.begun.max()) + 1), BLOCK))  # behind the last, nothing is open
        cuts = torch.searchsorted(item, torch.tensor([*firsts, len(self.codes)])).tolist()
        product, transposed = torch.empty(BLOCK, states, dtype=torch.int32), code.T.contiguous()
        peaks = torch.full((len(self.codes) // GROUP, states), CLOSED, dtype=torch.int32)
        for i, first in enumerate(firsts):
            codes = self.codes[first : first + BLOCK]
            sums, some = torch._int_mm(codes, transposed, out=product[: len(codes)]), slice(cuts[i], cuts[i + 1])
            sums.view(-1).index_add_(0, place[some] - first * states, added[some])
            if first == 0:
                sums[0] = CLOSED
            if first + len(codes) - 1 > first_begun or closed.until is not None:
                closed.add_to(sums, first)
            torch.amax(sums.view(-1, GROUP, states), 1, out=peaks[first // GROUP : (first + len(codes)) // GROUP])
        return peaks


class _Closed:
    """Which items are not open: begun int64 [B], clock int64 [B] and until int64 [N + 1], or None."""

    def __init__(self, begun: Tensor, clock: Tensor | None, until: Tensor | None) -> None:
        self.begun, self.clock, self.until = begun, clock, until if clock is not None else None

    def add_to(self, sums: Tensor, first: int) -> None:
        """Adds `CLOSED` to the sums [n, B] of items from `first` on that are not open; with masks it would take several times as long."""
        numbers, flags = torch.arange(first, first + len(sums), dtype=torch.int32)[:, None], torch.empty_like(sums)
        sums.add_(torch.gt(numbers, self.begun.to(torch.int32), out=flags), alpha=CLOSED)
        if self.until is not None and self.clock is not None:
            until = self.until[first : first + len(sums)]
            ended = until[:, None] <= self.clock
            sums[: len(until)].add_(ended, alpha=CLOSED)

    def at(self, numbers: Tensor, row: Tensor) -> Tensor:
        """bool of items `numbers` in states `row`, broadcast; padding is never open."""
        out = (numbers > self.begun[row]) | (numbers == 0)
        if self.until is None or self.clock is None:
            return out
        return out | (self.until[numbers.clamp(max=len(self.until) - 1)] <= self.clock[row])


def _places(mask: Tensor) -> Tensor:
    """Where a mask is true, few places of many, in the flattened order, int64; looked for eight at a time."""
    flat = mask.flatten()
    words = flat[: len(flat) // 8 * 8].view(torch.int64).nonzero()
    near = (words * 8 + torch.arange(8)).flatten()
    near = torch.cat([near, torch.arange(len(flat) // 8 * 8, len(flat))])
    return near[flat[near]]


def _add_bonus(values: Tensor, group: Tensor, row: Tensor, scores: FactoredScores, groups: int) -> None:
    """Adds the bonus of the items of the windows to values [P, GROUP] of groups and rows, both [P]."""
    states, length = scores.history.shape
    place = torch.full((groups * states,), -1, dtype=torch.int32)
    place[group * states + row] = torch.arange(len(group), dtype=torch.int32)
    item = scores.history.flatten()
    at = place[item // GROUP * states + torch.arange(states).repeat_interleave(length)].long()
    there = torch.nonzero(at >= 0)[:, 0]
    values.view(-1).index_add_(0, at[there] * GROUP + item[there] % GROUP, scores.repeat.flatten()[there])


def _best_of_rows(values: Tensor, numbers: Tensor, row: Tensor, states: int) -> Tensor:
    """The item number [B] of the largest value of each state, the lowest of equal ones, from values and numbers [P, GROUP]."""
    top = torch.full((states,), MASKED_VALUE).scatter_reduce_(0, row, values.amax(1), "amax")
    nowhere = torch.iinfo(torch.int64).max
    number = torch.where(values == top[row, None], numbers, nowhere).amin(1)
    best = torch.full((states,), nowhere).scatter_reduce_(0, row, number, "amin")
    return torch.where(top > MASKED_VALUE, best, 0)
