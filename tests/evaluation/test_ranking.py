import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qurate.baselines.registry import ShownOrderScorer
from qurate.errors import MachineError, UserError
from qurate.evaluation import ranking
from qurate.evaluation.evaluate import evaluate_ranking
from qurate.evaluation.ranking import Ranks, draw_visits, gains, rank_all, rank_targets, ranking_targets, top_items
from qurate.types import ALWAYS, CONTINUES, HISTORY, NEVER, TEST, TRAIN, VALID, Availability, EventArrays, Observation, Transitions

MINUTE = 60_000_000


@dataclass
class Log:
    arrays: EventArrays
    transitions: Transitions
    availability: Availability
    user_features: np.ndarray
    components: list[str]
    weights: np.ndarray
    state_visit: np.ndarray
    manifest: dict
    lists: None = None

    @property
    def item_features(self) -> np.ndarray:
        return np.zeros((len(self.availability.since), 0), np.float32)


def make_log(
    items, users, n_available, *, candidates=None, reward=None, split=None, components=("click",), visits=None, kind="organic"
) -> Log:
    """One history row and one decision per entry, a minute apart: state = the user's rows before it, action = its item.

    `n_available` is the size of a catalogue without end, or an `Availability`.
    """
    n = len(items)
    users = np.asarray(users)
    times = np.arange(n) * MINUTE
    starts = np.searchsorted(users, np.arange(users.max() + 2))
    arrays = EventArrays(np.asarray(items, np.int32), np.ones(n, np.uint8), times, np.zeros(n, np.float32), starts)
    ragged = candidates or [[] for _ in range(n)]
    reward = np.ones((n, len(components)), np.float32) if reward is None else np.asarray(reward, np.float32)
    transitions = Transitions(
        users.astype(np.int32), np.arange(n), times,
        np.concatenate([np.asarray(c, np.int32) for c in ragged]), np.concatenate([[0], np.cumsum([len(c) for c in ragged])]),
        np.full(n, TEST, np.uint8) if split is None else np.asarray(split, np.uint8),
        np.arange(n, dtype=np.int32), np.asarray(items, np.int32), reward, np.zeros(n, np.float32),
        np.full(n, -1, np.int32), np.full(n, CONTINUES, np.uint8), np.full(n, np.nan, np.float32),
    )  # fmt: skip
    features = np.zeros((users.max() + 1, 0), np.float32)
    visits = users if visits is None else np.asarray(visits)
    availability = n_available if isinstance(n_available, Availability) else Availability.always(n_available)
    weights = np.ones(len(components), np.float32)
    return Log(arrays, transitions, availability, features, list(components), weights, visits.astype(np.int32), {"kind": kind})


def intervals(since, until=None) -> Availability:
    """Items 1..N with these minutes (None: does not end)."""
    until = until or [None] * len(since)
    ends = [NEVER if minute is None else minute * MINUTE for minute in until]
    return Availability(np.array([NEVER, *(minute * MINUTE for minute in since)]), np.array([NEVER, *ends]))


class ByItem:
    """Scores an item by a table."""

    def __init__(self, table, name="table") -> None:
        self.table, self.name = np.asarray(table, np.float32), name

    def scores(self, observation: Observation):
        return self.table[observation.actions.candidates]


def test_gains_by_hand() -> None:
    found = gains(Ranks(np.array([0, 1, 4, 5, 0]), np.array([1, 1, 1, 1, 0])), 5)
    assert found["HR@5"].tolist() == [1, 1, 1, 0, 0]
    assert found["NDCG@5"].tolist() == pytest.approx([1, 1 / math.log2(3), 1 / math.log2(6), 0, 0])
    assert found["MRR@5"].tolist() == pytest.approx([1, 0.5, 0.2, 0, 0])
    assert found["MRR"].tolist() == pytest.approx([1, 0.5, 0.2, 1 / 6, 0])


def test_ties_are_the_mean_over_the_orders_they_allow() -> None:
    """Three candidates share the target's score behind one better: ranks 2, 3, 4 with probability 1/3 each."""
    found = gains(Ranks(np.array([1]), np.array([3])), 3)
    assert found["HR@3"][0] == pytest.approx(2 / 3)
    assert found["MRR"][0] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert found["NDCG@3"][0] == pytest.approx((1 / math.log2(3) + 1 / math.log2(4)) / 3)


def test_a_constant_scorer_earns_chance() -> None:
    log = make_log([1, 2, 3, 4, 5] * 4, [0] * 20, 50)
    result = evaluate_ranking("m", "log", log, {"q": [ByItem(np.zeros(51))]}, {}, k=20)
    assert result["metrics"]["HR@20"]["mean"] == pytest.approx(20 / 50)


def test_ranks_agree_with_sorting() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (40, 12)).astype(np.float32)
    mask = (rng.random((40, 12)) < 0.8).astype(np.int8)
    position = rng.integers(0, 12, 40)
    ranks = rank_targets(scores, mask, position)
    for b in range(40):
        open_scores = scores[b][mask[b] != 0]
        target = scores[b, position[b]]
        expected = ((open_scores > target).sum(), (open_scores == target).sum()) if mask[b, position[b]] else (0, 0)
        assert (ranks.better[b], ranks.ties[b]) == expected


def test_minus_infinity_ties_only_with_open_candidates() -> None:
    scores = np.array([[0, -np.inf, -np.inf, -np.inf]], np.float32)
    assert tuple(int(x[0]) for x in rank_targets(scores, np.array([[1, 1, 1, 0]], np.int8), np.array([1]))) == (1, 2)


def test_unavailable_and_unknown_targets_are_misses_and_counted() -> None:
    # items 6 and 7 are not available yet, item 0 is not in the catalogue
    log = make_log([1, 2, 6, 0, 7], [0] * 5, intervals([0, 0, 0, 0, 9, 9, 9]))
    result = evaluate_ranking("m", "log", log, {"q": [ByItem(np.arange(8))]}, {}, k=2)
    assert result["n"] == 5
    assert result["missed"] == pytest.approx(0.6)
    assert result["metrics"]["MRR"]["mean"] == pytest.approx((1 / 4 + 1 / 3) / 5)  # items 4 and 3 stand above
    assert result["open"]["n"] == 2
    assert result["open"]["MRR"]["mean"] == pytest.approx((1 / 4 + 1 / 3) / 2)


def test_availability_differs_within_a_batch() -> None:
    log = make_log([1, 1, 1], [0, 0, 0], intervals([0, 1, 2, 3]))
    ranked, opened = rank_all(log, np.arange(3), {"t": ByItem(np.arange(5))}, 1, window=3)
    assert ranked["t"].ranks.better.tolist() == [0, 1, 2]
    assert ranked["t"].first.tolist() == [1, 2, 3]
    assert np.flatnonzero(opened).tolist() == [1, 2, 3]
    assert np.flatnonzero(ranked["t"].covered).tolist() == [1, 2, 3]


def test_what_has_ended_is_masked_and_what_ended_is_a_miss() -> None:
    """Item 3 scores highest and is open in minutes 1 and 2, not in minute 3; item 4 is never open."""
    log = make_log([1, 1, 1, 3, 2], [0] * 5, intervals([0, 0, 1, 2], [None, 4, 3, 2]))
    ranked, opened = rank_all(log, np.arange(5), {"t": ByItem(np.arange(5))}, 2, window=3)
    assert ranked["t"].first.tolist() == [2, 3, 3, 2, 1]
    assert ranked["t"].ranks.better.tolist() == [1, 2, 2, 0, 0]
    assert ranked["t"].ranks.ties.tolist() == [1, 1, 1, 0, 0]
    assert np.flatnonzero(opened).tolist() == [1, 2, 3] == np.flatnonzero(ranked["t"].covered).tolist()
    result = evaluate_ranking("m", "log", log, {"q": [ByItem(np.arange(5))]}, {}, k=1)
    assert result["missed"] == 2 / 5 and result["candidates"] == (2 + 3 + 3 + 2 + 1) / 5
    assert result["metrics"]["coverage@1"]["mean"] == 3 / 3


def test_where_nothing_is_open_every_candidate_is_masked() -> None:
    log = make_log([1, 1], [0, 0], intervals([1], [None]))
    ((part, observation),) = ranking.observations(log, np.arange(1), window=2)
    assert part.tolist() == [0] and not observation.actions.mask.any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 12), st.integers(0, 8)), min_size=1, max_size=9), st.integers(1, 12))
def test_the_masks_of_ranking_equal_a_loop_over_the_items(spans: list[tuple[int, int]], n: int) -> None:
    spans = sorted(spans)
    since = [ALWAYS if start < 0 else start * MINUTE for start, _ in spans]
    until = [NEVER if length == 8 else (start + length) * MINUTE for start, length in spans]
    availability = Availability(np.array([NEVER, *since]), np.array([NEVER, *until]))
    log = make_log([1] * n, [0] * n, availability)
    offers = {}
    for part, observation in ranking.observations(log, np.arange(n), window=1):
        for b, row in enumerate(part.tolist()):
            offers[row] = observation.actions.candidates[b][observation.actions.mask[b] != 0].tolist()
    for row in range(n):
        clock = row * MINUTE
        expected = [i + 1 for i, (begin, end) in enumerate(zip(since, until, strict=True)) if begin <= clock < end]
        assert offers[row] == expected == availability.open_items(clock).tolist()
        assert availability.n_open(clock) == len(expected)


def test_listed_candidates_are_reranked_in_their_order() -> None:
    """The clicked item stood 2nd, 1st and 3rd: the site's own MRR is the mean of 1/2, 1 and 1/3."""
    log = make_log([5, 7, 9], [0, 0, 0], 20, candidates=[[4, 5], [7, 3, 2], [1, 2, 9, 8]])
    ranked, opened = rank_all(log, np.arange(3), {"as_shown": ShownOrderScorer()}, 2, window=4)
    assert gains(ranked["as_shown"].ranks, 2)["MRR"].tolist() == pytest.approx([1 / 2, 1, 1 / 3])
    assert np.flatnonzero(opened).tolist() == [1, 2, 3, 4, 5, 7, 8, 9]
    assert ranked["as_shown"].first.tolist() == [4, 7, 1]
    assert np.flatnonzero(ranked["as_shown"].covered).tolist() == [1, 2, 3, 4, 5, 7], "the first two of each"
    mixed = make_log([5, 7, 9], [0, 0, 0], 20, candidates=[[4, 5], [], [1, 2, 9, 8]])
    assert evaluate_ranking("m", "log", mixed, {"q": [ShownOrderScorer()]}, {})["candidates"] == pytest.approx((2 + 20 + 4) / 3)


def test_the_difference_to_the_best_baseline_is_one_of_the_whole_list_where_lists_were_shown() -> None:
    log = make_log([5, 7, 9], [0, 0, 0], 20, candidates=[[4, 5], [7, 3, 2], [1, 2, 9, 8]])
    lift = evaluate_ranking("m", "log", log, {"q": [ByItem(np.arange(21))]}, {"shown": ShownOrderScorer()}, k=1, draws=20)["lift"]
    assert lift["metric"] == "MRR" and lift["mean"] == pytest.approx((1 + 1 + 1) / 3 - (1 / 2 + 1 + 1 / 3) / 3)


def test_a_ranker_that_knows_nothing_covers_the_catalogue() -> None:
    log = make_log([1, 2, 3, 4, 5] * 40, [0] * 200, 50)
    assert evaluate_ranking("m", "log", log, {"q": [ByItem(np.zeros(51))]}, {}, k=5, draws=5)["metrics"]["coverage@5"]["mean"] == 1


def test_only_rewarded_rows_of_the_test_split_are_targets() -> None:
    split = [TEST, TEST, TRAIN, TEST, VALID, HISTORY]
    log = make_log([1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 2, 2], 9, reward=[[1], [0], [1], [1], [1], [1]], split=split)
    assert ranking_targets(log).tolist() == [0, 3]
    log.weights[:] = -1
    assert ranking_targets(log).tolist() == []
    with pytest.raises(UserError, match="test decisions with a rewarded item, got none"):
        evaluate_ranking("m", "log", log, {"q": [ShownOrderScorer()]}, {})


def test_visits_are_drawn_whole() -> None:
    log = make_log([1] * 6, [0, 0, 0, 0, 1, 1], 9, visits=[0, 0, 1, 1, 2, 3])
    visits = [{0, 1}, {2, 3}, {4}, {5}]
    rows = np.arange(6)
    for seed in range(40):
        drawn = set(draw_visits(log, rows, 2, seed).tolist())
        assert sum(v <= drawn for v in visits) == 2
        assert sum(bool(v & drawn) for v in visits) == 2
    assert draw_visits(log, rows, 9, 0).tolist() == rows.tolist()
    assert draw_visits(log, rows, 2, 3).tolist() == draw_visits(log, rows, 2, 3).tolist()


def test_batches_stay_under_the_limit_and_cover_every_row_once(monkeypatch) -> None:
    monkeypatch.setattr(ranking, "BATCH_BYTES", 40_000)
    rng = np.random.default_rng(0)
    candidates = [rng.permutation(300)[: rng.integers(1, 90)] + 1 if rng.random() < 0.5 else [] for _ in range(200)]
    availability = intervals(np.sort(rng.integers(0, 200, 300)).tolist(), (rng.integers(200, 300, 300)).tolist())
    log = make_log(rng.integers(1, 300, 200), np.zeros(200, np.int64), availability, candidates=candidates)
    seen = []
    for part, observation in ranking.observations(log, np.arange(200), window=5):
        assert part.size == 1 or observation.actions.candidates.size * ranking._BYTES_PER_SCORE <= 40_000
        for b, row in enumerate(part.tolist()):
            allowed = observation.actions.candidates[b][observation.actions.mask[b] != 0].tolist()
            assert allowed == (list(candidates[row]) or availability.open_items(row * MINUTE).tolist())
        seen += part.tolist()
    assert sorted(seen) == list(range(200))


def test_states_hold_only_what_came_before(monkeypatch) -> None:
    log = make_log([3, 4, 5], [0, 0, 0], 9)
    ((part, observation),) = ranking.observations(log, np.arange(3), window=2)
    history = dict(zip(part.tolist(), observation.state.history_items.tolist(), strict=True))
    assert history == {0: [0, 0], 1: [0, 3], 2: [3, 4]}


def test_evaluate_json(monkeypatch) -> None:
    reward = [[1, 0], [0, 1], [1, 0], [1, 0]]
    log = make_log([1, 2, 3, 3], [0, 0, 1, 1], 4, reward=reward, components=("click", "purchase"), kind="exposure")
    perfect = [ByItem([0, 1, 2, 9, 3]), ByItem([0, 1, 9, 3, 2])]  # seeds: item 3 first; item 2 first
    popular = ByItem([0, 9, 3, 2, 1])
    result = evaluate_ranking("m", "log", log, {"q": perfect, "behaviour": [popular, popular]}, {"popularity": popular}, k=1, draws=200)
    assert result["metrics"]["HR@1"]["mean"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert result["by_type"]["purchase"]["n"] == 1
    assert result["by_type"]["purchase"]["HR@1"]["mean"] == pytest.approx(1 / 2)
    assert result["by_score"]["q"]["first_choice_as_behaviour"] == 0.0
    assert result["by_score"]["behaviour"]["first_choice_as_behaviour"] == 1.0
    assert result["baselines"]["popularity"]["HR@1"]["mean"] == pytest.approx(1 / 4)
    assert result["metrics"]["coverage@1"]["mean"] == 1 / 4
    assert (result["users"], result["seeds"], result["candidates"]) == (2, 2, 4.0)
    assert result["lift"]["over"] == "popularity"
    assert result["lift"]["mean"] == pytest.approx(1 / 8)
    assert "not value" in result["caption"]
    worst = ByItem([0, 0, 0, 0, 9])
    two = evaluate_ranking("m", "log", log, {"q": [popular]}, {"worst": worst, "same": popular}, k=1, draws=200)
    assert two["lift"] == {"metric": "NDCG@1", "over": "same", "mean": 0.0, "ci": [0.0, 0.0]}, "paired: draw by draw the same"


def test_the_first_items_are_open_ones_in_the_order_of_their_scores(monkeypatch) -> None:
    log = make_log([1, 1], [0, 0], intervals([0, 0, 1, 1]))
    ((_, observation),) = ranking.observations(log, np.arange(2), window=2)
    scores = np.array([[1, 2, 9, 9], [1, 4, 3, 2]], np.float32)
    assert top_items(scores, observation, 3).tolist() == [[2, 1, 0], [2, 3, 4]]


def test_items_of_the_same_score_are_on_lists_by_chance() -> None:
    """A scorer that knows nothing shows every item; what is better than the last place stays on the list, the best one first."""
    log = make_log([1] * 400, [0] * 400, intervals([0] * 21))
    ((_, observation),) = ranking.observations(log, np.arange(400), window=2)
    scores = np.zeros((400, 20), np.float32)
    scores[:200, [4, 9]] = 1, 2
    top = top_items(scores, observation, 5, np.random.default_rng(0))
    assert (top[:200, :2] == [10, 5]).all() and (np.sort(top, axis=1)[:, 1:] != np.sort(top, axis=1)[:, :-1]).all()
    share = np.bincount(top[200:].ravel(), minlength=21)[1:] / 200
    assert np.abs(share - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 200), "each of 20 items on a quarter of the lists"


def test_broken_scorers_are_machine_errors() -> None:
    log = make_log([1, 2], [0, 0], 4)
    with pytest.raises(MachineError, match="scores without NaN"):
        rank_all(log, np.arange(2), {"bad": ByItem([0, 1, 2, np.nan, 3])}, 2, 3)

    class Narrow:
        name = "narrow"

        def scores(self, observation):
            return np.zeros((1, 1), np.float32)

    with pytest.raises(MachineError, match="scores of shape"):
        rank_all(log, np.arange(2), {"bad": Narrow()}, 2, 3)


def test_the_interval_is_over_users_not_over_targets() -> None:
    """A thousand identical targets of each of two users say as much as one target of each."""
    items = [1] * 1_000 + [2] * 1_000
    log = make_log(items, [0] * 1_000 + [1] * 1_000, 4)
    result = evaluate_ranking("m", "log", log, {"q": [ByItem([0, 9, 1, 0, 0])]}, {}, k=1)
    assert result["metrics"]["HR@1"] == {"mean": 0.5, "ci": [0.0, 1.0]}


def test_what_is_not_shown_again_is_masked_by_the_whole_history_and_time() -> None:
    """Against a loop over the rows before each decision; minutes apart, so that 90 s reach back one row."""
    rng = np.random.default_rng(0)
    users = np.sort(rng.integers(0, 4, 60))
    log = make_log(rng.integers(1, 7, 60), users, 6)
    flat = ByItem([0.0] * 7)
    for seconds in (90.0, np.inf, -1.0):
        ranked, _ = ranking.rank_all(log, np.arange(60), {"flat": flat}, 3, 5, np.array([-1, seconds], np.float32))
        for row in range(60):
            before = [i for i in range(row) if users[i] == users[row] and (row - i) * 60 <= seconds]
            masked = {int(log.arrays.item[i]) for i in before}
            expected = 0 if int(log.arrays.item[row]) in masked else 6 - len(masked)
            assert ranked["flat"].ranks.ties[row] == expected
    again = [any(log.arrays.item[i] == log.arrays.item[row] and users[i] == users[row] for i in range(row)) for row in range(60)]
    assert ranking.had_before(log, np.arange(60)).tolist() == again


def test_long_histories_are_read_in_parts(monkeypatch) -> None:
    rng = np.random.default_rng(1)
    log = make_log(rng.integers(1, 7, 80), np.sort(rng.integers(0, 3, 80)), 6)
    whole = ranking.had_before(log, np.arange(80))
    monkeypatch.setattr(ranking, "HISTORY_ROWS", 50)
    assert len(list(ranking.earlier(log, np.arange(80)))) > 5
    np.testing.assert_array_equal(ranking.had_before(log, np.arange(80)), whole)


def test_first_choices_and_repeats_are_reported_apart() -> None:
    log = make_log([1, 1, 2, 1], [0, 0, 0, 0], 2)
    scorer = ByItem([0, 9, 1])  # item 1 first
    seen = np.array([-1, np.inf], np.float32)
    free = evaluate_ranking("m", "log", log, {"q": [scorer]}, {}, k=1, draws=50)
    assert (free["first_choices"]["n"], free["repeats"]["n"], free["exclude"]) == (2, 2, "none")
    assert (free["first_choices"]["HR@1"]["mean"], free["repeats"]["HR@1"]["mean"]) == (0.5, 1.0)
    masked = evaluate_ranking("m", "log", log, {"q": [scorer]}, {}, k=1, draws=50, exclude=("seen", seen))
    assert (masked["first_choices"]["HR@1"]["mean"], masked["repeats"]["HR@1"]["mean"], masked["exclude"]) == (1.0, 0.0, "seen")
