"""When an item may be shown: from the items table through the dataset to candidates, masks and the target's maximum."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mdp_logs import decision, event, make_log

from qurate.choosing.merchandising import available
from qurate.errors import Code, UserError
from qurate.evaluation.ranking import observations
from qurate.mdp.availability import declared_times
from qurate.mdp.dataset import Dataset, build_dataset
from qurate.replay.writers import store_from_log
from qurate.types import ALWAYS, NEVER, Availability

HOUR = 3600.0
TEN, ELEVEN = 10 * HOUR, 11 * HOUR


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def live_rooms() -> pl.DataFrame:
    """A room that opens at 10:00:00 and closes at 11:00:00, one that opens at 10:30 and does not close, two without times."""
    times = {"available_from": [at(TEN), at(TEN + 1800), None, None], "available_until": [at(ELEVEN), None, None, None]}
    return pl.DataFrame({"item_id": ["room", "late", "a", "b"], "price": [1.0, 2.0, 3.0, 4.0], **times})


MOMENTS = [TEN - HOUR, TEN - 1, TEN, TEN + 1, TEN + 1800, ELEVEN - 1, ELEVEN, ELEVEN + 1, ELEVEN + HOUR, ELEVEN + 2 * HOUR]


def asked(items: pl.DataFrame | None = None, **settings) -> Dataset:
    """One customer, asked at `MOMENTS`; a is shown each time, and nothing says what else there was."""
    decisions = [decision(f"d{i}", "u", ["a"], moment, propensity=[0.5]) for i, moment in enumerate(MOMENTS)]
    rows = [event("u", "a", moment + 0.5, decision_id=f"d{i}") for i, moment in enumerate(MOMENTS)]
    log = make_log(rows, decisions, "logged", items=live_rooms() if items is None else items)
    return build_dataset(log, {"click": 1}, episode="user", **settings)


def offered(dataset: Dataset, clock: float) -> set[str]:
    return {dataset.vocabulary.items[i - 1] for i in dataset.availability.open_items(round(clock * 1e6))}


ALWAYS_THERE = {"a", "b"}


def test_a_room_is_offered_from_the_second_it_opens_and_no_more_in_the_second_it_closes():
    dataset = asked()
    assert offered(dataset, TEN - 1e-6) == ALWAYS_THERE
    assert offered(dataset, TEN) == {*ALWAYS_THERE, "room"}
    assert offered(dataset, TEN + 1800) == offered(dataset, ELEVEN - 1e-6) == {*ALWAYS_THERE, "room", "late"}
    assert offered(dataset, ELEVEN) == offered(dataset, ELEVEN + 9 * HOUR) == {*ALWAYS_THERE, "late"}
    assert dataset.item_features.shape == (5, 1)  # the price: times are no features
    assert dataset.manifest["notes"] == []


def test_it_leaves_the_targets_maximum_where_the_successors_clock_is_later():
    dataset = asked()
    steps = dataset.transitions
    store = store_from_log(dataset.arrays, steps, dataset.weights, dataset.user_features, 0.9, 1e6, 4, dataset.availability)
    following = np.flatnonzero(steps.next_state >= 0)
    actions = store.batch(following.astype(np.int64)).next_actions
    assert actions.candidates is None and actions.until is not None
    room = dataset.vocabulary.items.index("room") + 1
    maximum_over = (actions.since[room] <= actions.clock) & (actions.clock < actions.until[room])
    moments = np.round(steps.clock[steps.next_state[following]] / 1e6)
    np.testing.assert_array_equal(maximum_over, (moments >= TEN) & (moments < ELEVEN))
    assert maximum_over.any() and not maximum_over.all()


def test_it_is_masked_in_ranking():
    dataset = asked()
    steps, masks = dataset.transitions, {}
    for part, observation in observations(dataset, np.arange(len(steps.action)), 4):
        for row, items, mask in zip(part, observation.actions.candidates, observation.actions.mask, strict=True):
            masks[MOMENTS[row]] = {dataset.vocabulary.items[i - 1] for i in items[mask != 0]}
    assert masks == {moment: offered(dataset, moment) for moment in MOMENTS}
    assert "room" in masks[TEN] and "room" in masks[ELEVEN - 1] and "room" not in masks[ELEVEN] and "room" not in masks[TEN - 1]


def test_both_times_are_in_the_directory_and_come_back(tmp_path: Path):
    dataset = asked()
    dataset.write(tmp_path / "d")
    again = Dataset.read(tmp_path / "d").availability
    np.testing.assert_array_equal(again.since, dataset.availability.since)
    np.testing.assert_array_equal(again.until, dataset.availability.until)
    table = pl.read_parquet(tmp_path / "d" / "items.parquet")
    ends = dict(zip(table["item_id"], table["available_until"], strict=True))
    assert ends == {"a": None, "b": None, "room": at(ELEVEN), "late": None}
    assert "n_available" not in pl.read_parquet_schema(tmp_path / "d" / "decisions.parquet")


def test_a_declared_end_says_nothing_of_the_beginning():
    items = pl.DataFrame({"item_id": ["a", "room"], "available_until": [None, at(ELEVEN)]})
    dataset = asked(items)
    assert offered(dataset, 0) == offered(dataset, ELEVEN - 1) == {"a", "room"} and offered(dataset, ELEVEN) == {"a"}


def test_an_undeclared_item_begins_when_first_seen_in_training_and_never_ends():
    rows = [event("u", x, i) for i, x in enumerate("aabbccaabbccd")]
    availability = build_dataset(make_log(rows)).availability
    assert availability.since.tolist() == [NEVER, 0, 2_000_000, 4_000_000, NEVER] and availability.until.tolist() == [NEVER] * 5
    assert not availability.ends and availability.n_ever == 3


@pytest.mark.parametrize("as_text", [False, True])
def test_other_spellings_and_forms_of_time(as_text: bool):
    """KuaiLive's names with milliseconds, `available_since`, and text with a zone."""
    rooms = pl.DataFrame({"item_id": ["x", "y"], "start_timestamp": [1_700_000_000_000, None], "end_timestamp": [1_700_000_360_000, None]})
    if as_text:
        texts = {"available_since": ["2023-11-14T22:13:20Z", None], "available_until": ["2023-11-15T00:19:20+02:00", None]}
        rooms = pl.DataFrame({"item_id": ["x", "y"], **texts})
    table = declared_times(rooms, "items")
    assert table.columns == ["item_id", "available_from", "available_until"]
    assert table["available_from"].to_list() == [at(1_700_000_000), None]
    assert table["available_until"].to_list() == [at(1_700_000_360), None]


def test_an_end_before_the_beginning_is_refused_by_row_and_item():
    table = live_rooms().with_columns(available_until=pl.Series([at(ELEVEN), at(TEN), None, None]))
    with pytest.raises(UserError, match=r"10:00:00.* before .*10:30:00.* for item 'late', at items, row 2") as caught:
        asked(table)
    assert caught.value.code == Code.BAD_AVAILABILITY and caught.value.exit_code == 2
    equal = live_rooms().with_columns(available_until=pl.Series([at(TEN), None, None, None]))
    assert "room" not in offered(asked(equal), TEN)  # an empty interval
    with pytest.raises(UserError, match="times in available_until, got 'soon', at items"):
        asked(pl.DataFrame({"item_id": ["a", "b"], "available_until": ["2024-01-01", "soon"]}))


def test_listed_candidates_that_had_ended_are_left_out_counted_and_said():
    shown = [(TEN, ["room", "a"], None), (ELEVEN, ["a"], ["room", "a", "late"]), (ELEVEN + 1, ["room"], ["room"])]
    decisions = [
        decision(f"d{i}", "u", items, moment, propensity=[0.5] * len(items), candidates=pool)
        for i, (moment, items, pool) in enumerate(shown)
    ]
    decisions[0]["candidates"] = ["room", "a"]
    log = make_log([event("u", "a", ELEVEN + 5, decision_id="d1")], decisions, "logged", items=live_rooms())
    dataset = build_dataset(log, {"click": 1}, split="time")
    steps = dataset.transitions
    lists = [
        {dataset.vocabulary.items[i - 1] for i in steps.candidates[begin:end]}
        for begin, end in zip(steps.candidates_start, steps.candidates_start[1:])
    ]
    assert lists == [{"room", "a"}, {"a", "late"}, set()]  # the last: what was available then
    assert len(steps.action) == 4  # what was shown stays
    assert dataset.manifest["notes"] == [
        "1 items were shown after their available_until, 1 of them with a logged propensity",
        "2 listed candidates had ended at their decision and are left out",
        "1 decisions keep no candidate of their list: all that was available then counts as theirs",
    ]
    again = build_dataset(
        make_log([event("u", "a", ELEVEN + 5, decision_id="d1")], decisions, "logged", items=live_rooms().drop("available_until"))
    )
    assert len(again.transitions.candidates) == 6 and again.manifest["notes"] == []


def test_choices_after_the_end_are_said_for_an_organic_log():
    rows = [event("u", x, moment) for x, moment in (("a", TEN), ("room", TEN + 1), ("a", ELEVEN - 1), ("room", ELEVEN), ("b", ELEVEN + 2))]
    dataset = build_dataset(make_log(rows, items=live_rooms()))
    assert dataset.manifest["notes"] == ["1 items were chosen after their available_until"]


def shifted(rows: list[dict], clock: int) -> list[dict]:
    return [{**row, "timestamp": row["timestamp"] + (3600_000_000 if row["timestamp"] > clock else 0)} for row in rows]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 29))
def test_shifting_all_later_timestamps_changes_no_state_and_no_candidates_where_items_end(seed: int, state: int):
    rng = np.random.default_rng(seed)
    times, items = np.sort(rng.choice(5000, 30, replace=False)), rng.choice(list("abcdef"), 30)
    lists = [sorted({str(items[i]), *rng.choice(list("abcdef"), 2)}) if rng.random() < 0.5 else None for i in range(30)]
    decisions = [decision(f"d{i}", "uv"[i % 2], [items[i]], times[i], candidates=lists[i]) for i in range(30)]
    rows = [event("uv"[i % 2], items[i], times[i] + 0.5, decision_id=f"d{i}") for i in range(0, 30, 3)]
    begin = rng.integers(0, 4000, 6)
    spans = {"available_from": [at(int(b)) for b in begin], "available_until": [at(int(b) + int(rng.integers(0, 2000))) for b in begin]}
    table = pl.DataFrame({"item_id": list("abcdef"), **spans})

    def offers(events: list[dict], shown: list[dict]) -> tuple:
        dataset = build_dataset(make_log(events, shown, "exposure", items=table))
        steps = dataset.transitions
        clock, user = int(steps.clock[state]), int(steps.user[state])
        listed = steps.candidates[steps.candidates_start[state] : steps.candidates_start[state + 1]].tolist()
        history = slice(int(dataset.arrays.user_start[user]), int(steps.history_end[state]))
        past = (dataset.arrays.item[history].tolist(), dataset.arrays.time[history].tolist())
        return clock, past, listed or dataset.availability.open_items(clock).tolist()

    before = offers(rows, decisions)
    assert offers(shifted(rows, before[0]), shifted(decisions, before[0])) == before


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-2, 20), st.integers(0, 21)), min_size=1, max_size=12),
    st.lists(st.integers(-3, 45), min_size=1, max_size=8),
    st.booleans(),
)
def test_the_mask_equals_the_loop_over_the_items(spans: list[tuple[int, int]], clocks: list[int], shared: bool):
    """-2 = from the beginning, a length of 21 = without end."""
    since = np.array([NEVER, *sorted(ALWAYS if begin == -2 else begin for begin, _ in spans)])
    begins = sorted(spans)
    until = np.array([NEVER, *(NEVER if length == 21 else begin + length for begin, length in begins)])
    availability, clock = Availability(since, until), np.array(clocks)
    candidates = np.broadcast_to(np.arange(len(since)), (len(clock), len(since)))
    mask = available(candidates if shared else candidates.copy(), availability, clock)
    for row, moment in enumerate(clocks):
        loop = [item for item in range(1, len(since)) if since[item] <= moment < until[item]]
        assert np.flatnonzero(mask[row]).tolist() == loop == availability.open_items(moment).tolist()
        assert availability.n_open(moment) == len(loop) and availability.n_open(clock)[row] == len(loop)
