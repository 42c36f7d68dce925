"""The form of the calibration: by hand, and back from its files as it was."""

import math

import numpy as np
import pytest

from qurate.baselines.neighbours import SessionKnnScorer, fit_session_knn_scorer
from qurate.baselines.training_rows import Rows
from qurate.models.calibration import COUNTS, LENGTHS, RANKS, ChoiceCalibration, repeats
from qurate.types import Actions, FloatArray, Observation, State

N = 6


def observation(windows: list[list[int]], candidates: list[int] | None = None) -> Observation:
    items = np.array(windows)
    zeros = np.zeros(items.shape, np.float32)
    state = State(items, (items > 0) * 1, zeros, zeros, np.zeros((len(items), 0), np.float32), np.zeros((len(items), 2), np.float32))
    listed = np.broadcast_to(np.array(candidates or range(1, N + 1)), (len(items), len(candidates or range(N))))
    return Observation(state, Actions(listed, np.ones(listed.shape, np.int8)))


def calibration(**numbers: FloatArray) -> ChoiceCalibration:
    rng = np.random.default_rng(0)
    sizes = {"log_temperature": len(LENGTHS), "by_length": len(LENGTHS), "by_rank": RANKS, "by_count": COUNTS}
    sizes |= {"near": len(LENGTHS), "nearness": len(LENGTHS), "log_temperature_again": len(LENGTHS), "near_again": 1, "nearness_again": 1}
    return ChoiceCalibration(**{name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()} | numbers)


def visits() -> SessionKnnScorer:
    """Visits {1, 2, 4} and {2, 5}."""
    rows = Rows(np.array([1, 2, 4, 2, 5]), np.ones(5, np.int64), np.arange(5), np.array([0, 0, 0, 1, 1]))
    return fit_session_knn_scorer(rows, N, np.array([False, True]))


def test_the_classes_of_repeats_by_hand() -> None:
    found = repeats(observation([[0, 3, 5, 3, 2], [0, 0, 0, 0, 0]]).state)
    assert found.at.tolist() == [[False, False, True, True, True], [False] * 5], "each item at its newest place"
    assert found.rank[0, 2:].tolist() == [2, 1, 0] and found.times[0, 2:].tolist() == [0, 1, 0], "5, 3 (twice), 2"
    assert found.length.tolist() == [2, 0], "three different items; none counts as one"


def test_logits_by_hand() -> None:
    numbers, raw = calibration(), np.arange(2 * N, dtype=np.float32).reshape(2, N)
    seen, rows = [[0, 2, 4, 2], [0, 0, 0, 6]], observation([[0, 2, 4, 2], [0, 0, 0, 6]])
    out = numbers.with_neighbours(visits()).logits(raw.copy(), rows)
    score = visits().scores(rows)
    assert (score[0, [0, 1, 3, 4]] > 0).all() and (score[1] == 0).all(), "nobody saw 6"
    for row, (length, again) in enumerate([(1, {2: (0, 1), 4: (1, 0)}), (0, {6: (0, 0)})]):
        for item in range(1, N + 1):
            expected = raw[row, item - 1] / math.exp(numbers.log_temperature[length])
            if item in again:
                rank, count = again[item]
                expected /= math.exp(numbers.log_temperature_again[length])
                expected += numbers.by_rank[rank] + numbers.by_count[count] + numbers.by_length[length]
            if score[row, item - 1] > 0:
                expected += numbers.near[length] + numbers.nearness[length] * math.log(score[row, item - 1])
                if item in again:
                    expected += numbers.near_again[0] + numbers.nearness_again[0] * math.log(score[row, item - 1])
            assert out[row, item - 1] == pytest.approx(expected, abs=1e-4), (seen[row], item)


def test_listed_candidates_get_what_they_get_in_the_catalogue() -> None:
    numbers, raw = calibration().with_neighbours(visits()), np.zeros((2, N), np.float32)
    windows = [[0, 2, 4, 2], [0, 0, 0, 6]]
    whole = numbers.logits(raw.copy(), observation(windows))
    part = numbers.logits(raw[:, :3].copy(), observation(windows, [6, 2, 5]))
    assert np.allclose(part, whole[:, [5, 1, 4]])


def test_zeros_change_nothing() -> None:
    raw = np.random.default_rng(0).normal(size=(1, N)).astype(np.float32)
    assert np.array_equal(ChoiceCalibration.none().with_neighbours(visits()).logits(raw.copy(), observation([[1, 2]])), raw)


@pytest.mark.parametrize("near", [True, False])
def test_it_comes_back_from_its_files(near: bool) -> None:
    numbers = calibration().with_neighbours(visits()) if near else calibration()
    again = ChoiceCalibration.from_saved(*numbers.saved())
    raw, rows = np.random.default_rng(0).normal(size=(1, N)).astype(np.float32), observation([[1, 2]])
    assert np.array_equal(again.logits(raw.copy(), rows), numbers.logits(raw.copy(), rows))
    config, arrays = numbers.saved()
    with pytest.raises(ValueError, match="other sizes"):
        ChoiceCalibration.from_saved(config, arrays | {"by_rank": np.zeros(3, np.float32)})
