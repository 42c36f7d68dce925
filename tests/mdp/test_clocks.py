from itertools import pairwise

import numpy as np
import pytest

from qurate.mdp.clocks import COLUMNS, HALF_LIVES, SECONDS, Clocks, Counters

MINUTE = 60_000_000
N = 6


def log(seed=0, rows=300, start=0):
    """Visits of four rows, in order of customer and time; some times are equal and some rows name no item."""
    rng = np.random.default_rng(seed)
    visit = np.arange(rows) // 4
    time = start + rng.integers(0, 400, rows // 4 + 1)[visit] * MINUTE + (np.arange(rows) % 4) * rng.integers(0, 2, rows) * MINUTE
    time = np.maximum.accumulate(time + visit * 10_000 * MINUTE) - visit * 10_000 * MINUTE  # ascending within a visit
    item = rng.integers(0, N + 1, rows).astype(np.int32)
    return item, time, visit.astype(np.int32)


def by_definition(item, time, visit, candidate, last, clock):
    """Sums of powers over everything strictly before the clock, without a recurrence."""
    counts, moves = np.zeros(len(SECONDS)), np.zeros(len(SECONDS))
    for one in np.flatnonzero((item == candidate) & (time < clock)):
        counts += 0.5 ** ((clock - time[one]) / 1e6 / SECONDS)
    for v in np.unique(visit):
        rows = [r for r in np.flatnonzero(visit == v) if item[r] > 0]
        for a, b in pairwise(rows):
            if item[a] == last and item[b] == candidate and item[a] != item[b] and time[b] < clock:
                moves += 0.5 ** ((clock - time[b]) / 1e6 / SECONDS)
    seen = time[(item == candidate) & (time < clock)]
    return np.array([*counts, *moves, (clock - seen.min()) / 3.6e9 if len(seen) else np.nan])


def test_equals_the_sums_of_the_definition():
    item, time, visit = log()
    clocks, rng = Clocks.of(item, time, visit, N), np.random.default_rng(1)
    asked = rng.choice(np.unique(time), 40)  # at the very times of events, so that those of the same moment are told apart
    last, candidates = rng.integers(0, N + 1, 40), np.tile(np.arange(1, N + 1), (40, 1))
    values = clocks.values(candidates, last, asked)
    expected = [[by_definition(item, time, visit, c, last[b], asked[b]) for c in range(1, N + 1)] for b in range(40)]
    np.testing.assert_allclose(values, np.array(expected), rtol=2e-6)
    assert (values[:, :, 0] > 0).any() and (values[:, :, len(HALF_LIVES)] > 0).any()


def test_nothing_later_and_nothing_of_the_same_moment_enters():
    item, time, visit = log(2)
    clock = np.sort(time)[150]
    moved = time >= clock
    later = np.where(moved, time + 77 * MINUTE, time)
    other = item.copy()
    other[moved] = 1 + item[moved] % N
    ask = np.tile(np.arange(1, N + 1), (N, 1)), np.arange(N), np.full(N, clock)
    before = Clocks.of(item, time, visit, N).values(*ask)
    np.testing.assert_array_equal(before, Clocks.of(item, later, visit, N).values(*ask))
    np.testing.assert_array_equal(before, Clocks.of(other, later, visit, N).values(*ask))
    assert not np.array_equal(before, Clocks.of(item, time, visit, N).values(*ask[:2], ask[2] + 1), equal_nan=True)


def test_event_by_event_gives_the_same_bits():
    item, time, visit = log(3)
    clocks, items, moves = Clocks.of(item, time, visit, N), Counters(), Counters()
    newest: dict[int, int] = {}
    for row in np.argsort(time, kind="stable"):
        if item[row]:
            items.add(int(item[row]), int(time[row]))
            source = newest.get(int(visit[row]), 0)
            if source and source != item[row]:
                moves.add(source * (N + 1) + int(item[row]), int(time[row]))
            newest[int(visit[row])] = int(item[row])
    clock = np.full(N, time.max() + 12_345_678)
    values = clocks.values(np.tile(np.arange(1, N + 1), (N, 1)), np.arange(1, N + 1), clock)
    h = len(SECONDS)
    for source in range(N):
        online = items.at(np.arange(1, N + 1), clock), moves.at((source + 1) * (N + 1) + np.arange(1, N + 1), clock)
        np.testing.assert_array_equal(values[source, :, :h], online[0].astype(np.float32))
        np.testing.assert_array_equal(values[source, :, h : 2 * h], online[1].astype(np.float32))


def test_a_late_event_counts_as_if_it_had_come_in_order():
    in_order, late = Counters(), Counters()
    for time in (0, 5 * MINUTE, 9 * MINUTE):
        in_order.add(1, time)
    for time in (0, 9 * MINUTE, 5 * MINUTE):
        late.add(1, time)
    clock = np.array([20 * MINUTE])
    np.testing.assert_allclose(late.at(np.array([1]), clock), in_order.at(np.array([1]), clock), rtol=1e-12)


def test_before_the_log_and_of_unknown_items_nothing_is_known():
    item, time, visit = log(4, start=10**15)
    clocks = Clocks.of(item, time, visit, N + 1)
    for clock in (-(10**17), 0, int(time.min())):
        values = clocks.values(np.array([[1, N + 1, 0]]), np.array([2]), np.array([clock]))
        np.testing.assert_array_equal(values[0, :2], np.array([[0] * (len(COLUMNS) - 1) + [np.nan]] * 2, np.float32))
    never = clocks.values(np.array([[N + 1]]), np.array([1]), np.array([time.max() + 1]))[0, 0]
    assert (never[:-1] == 0).all() and np.isnan(never[-1])


def test_late_counters_answer_as_of_earlier():
    item, time, visit = log(5)
    clock, ask = np.full(N, time.max()), (np.tile(np.arange(1, N + 1), (N, 1)), np.arange(N))
    late = Clocks.of(item, time, visit, N, late_us=30 * MINUTE).values(*ask, clock)
    np.testing.assert_array_equal(late, Clocks.of(item, time, visit, N).values(*ask, clock - 30 * MINUTE))


@pytest.mark.parametrize("rows", [0, 1])
def test_logs_without_moves(rows):
    item, time, visit = (part[:rows] for part in log(6))
    values = Clocks.of(np.minimum(item + 1, N).astype(np.int32), time, visit, N).values(
        np.array([[1, 2]]), np.array([1]), np.array([10**15])
    )
    assert values.shape == (1, 2, len(COLUMNS)) and (values[:, :, 4:8] == 0).all()
