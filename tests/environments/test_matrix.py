"""The matrix world: ratings and the rule of leaving against cases worked out by hand, completion, and mistakes that are named."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from qurate.environments.engine import BatchedEngine
from qurate.environments.rating_matrix import LEAST_RATINGS, RatingMatrix, complete, completed_matrix, drawn_matrix
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.matrix import Matrix
from qurate.environments.scenarios.matrix_references import far_sighted, planner, values_of_items
from qurate.environments.worlds import references
from qurate.errors import Code, UserError
from qurate.evaluation.rollouts import rollout


def small(**options: float) -> BatchedEngine:
    """Two users, five items: a, b, c of one category, d and e of another."""
    alike = np.zeros((6, 6), bool)
    alike[1:4, 1:4] = alike[4:, 4:] = True
    ratings = np.array([[5, 4, 3, 2, 1], [1, 2, 3, 4, 5]], np.float32)
    world = Matrix(RatingMatrix(ratings, alike, list("abcde"), ["x", "x", "x", "y", "y"], {}), **options)  # type: ignore[arg-type]
    return BatchedEngine(world, max_steps=9)


def show(engine: BatchedEngine, *items: str) -> list[np.ndarray]:
    """Whether everybody was gone after each of the items."""
    out = []
    for item in items:
        feedback = engine.step(np.full(engine.n, "abcde".index(item)))
        out.append(feedback.terminated)
    return out


def test_what_is_shown_is_rated_by_the_matrix() -> None:
    engine = small()
    engine.reset(0, 100)
    who = engine.world.who.copy()  # type: ignore[attr-defined]
    feedback = engine.step(np.full(100, 1))
    assert set(who) == {0, 1} and np.array_equal(feedback.reward, np.where(who == 0, 4, 2))
    assert np.array_equal(feedback.rows.value[feedback.rows.type == 1], feedback.reward) and (feedback.clicked == 0).all()


@pytest.mark.parametrize(
    "items,window,similar,gone_at",
    [
        ("abc", 5, 2, 2),  # the third of a category
        ("adbec", 5, 2, 4),
        ("aaa", 5, 2, 2),
        ("adb", 5, 2, None),
        ("adbd", 5, 1, 2),  # one alike is enough
        ("abde", 5, 3, None),
        ("aded", 5, 2, 3),  # the second d meets two of its kind
        ("abdc", 2, 2, None),  # a has left the window
        ("abdc", 3, 2, 3),
    ],
)
def test_a_user_leaves_when_enough_of_the_last_items_were_alike(items: str, window: int, similar: int, gone_at: int | None) -> None:
    engine = small(leave_window=window, leave_similar=similar)
    engine.reset(0, 3)
    gone = show(engine, *items)
    for i, here in enumerate(gone):
        assert here.all() if i == gone_at else not here.any(), i
        if i == gone_at:
            break


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_strength_is_the_probability_of_leaving(strength: float) -> None:
    engine = small(strength=strength)
    engine.reset(0, 5_000)
    gone = show(engine, "a", "b", "c")[2]
    assert abs(gone.mean() - strength) < 0.03


def test_whoever_comes_next_has_seen_nothing() -> None:
    engine = small()
    engine.reset(0, 4)
    gone = show(engine, "a", "b", "c", "a", "b")
    assert gone[2].all() and not gone[3].any() and not gone[4].any()


def test_feedback_is_the_same_at_batch_1_7_and_1024() -> None:
    def play(n: int) -> list[float]:
        engine = make_engine("matrix", strength=0.5)
        engine.reset(4, n)
        out = []
        for item in np.random.default_rng(0).integers(0, 200, 30):
            feedback = engine.step(np.full(n, item))
            out += [float(feedback.reward[0]), float(feedback.terminated[0])]
            if feedback.terminated[0]:
                break
        return out

    assert play(1) == play(7) == play(1_024)


def test_the_references_know_what_ends_a_visit() -> None:
    means = {}
    for name, make in references("matrix").items():
        engine = make_engine("matrix", n_items=60)
        means[name] = rollout(engine, make(engine), 0, 200, max_decisions=30, every_lane=True).returns.mean()
    assert means["far_sighted"] > 4 * means["true_myopic"] and means["planner"] > 0.99 * means["far_sighted"]
    assert len(means) == 3


def test_an_end_costs_the_decisions_after_it() -> None:
    """With three decisions left, the item that ends the visit loses two mean ratings."""
    engine = small(leave_window=5, leave_similar=2)
    engine.reset(0, 1)
    recent = np.array([[0, 0, 0, 1, 2]])  # a and b: c would be the third of a kind
    for left, lost in ((3, 2), (1, 0), (0, 0)):
        values = values_of_items(engine.world, np.array([0]), recent, np.array([left]))  # type: ignore[arg-type]
        assert values[0].tolist() == [5 - 3 * lost, 4 - 3 * lost, 3 - 3 * lost, 2, 1]


def test_without_strength_myopic_is_optimal() -> None:
    engine = make_engine("matrix", strength=0.0, n_items=40)
    engine.reset(0, 50)
    rng = np.random.default_rng(0)
    for _ in range(6):
        chosen = {name: make(engine).act(engine.observation, rng)[0] for name, make in references("matrix").items()}
        assert np.array_equal(chosen["true_myopic"], chosen["far_sighted"]) and np.array_equal(chosen["true_myopic"], chosen["planner"])
        engine.step(chosen["true_myopic"])


def test_at_the_last_decision_leaving_costs_nothing() -> None:
    """Two decisions, and one alike ends the visit: user 0 likes a best, and a again at the last decision."""
    engine = small(leave_window=5, leave_similar=1)
    engine.max_steps = 2
    engine.reset(0, 30)
    first = engine.world.who == 0  # type: ignore[attr-defined]
    assert (planner(engine).act(engine.observation, np.random.default_rng(0))[0][first] == 0).all()
    engine.step(np.where(first, 0, 4))
    best = far_sighted(engine).act(engine.observation, np.random.default_rng(0))[0]
    assert (best[first] == 0).all(), "at the last decision nothing is lost by leaving"


def test_completion_finds_ratings_of_low_rank_better_than_offsets() -> None:
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(90, 2)), rng.normal(size=(50, 2))
    truth = 3 + u @ v.T * 0.5
    row, column = np.nonzero(rng.random(truth.shape) < 0.4)
    ratings, vectors, figures = complete(row, column, truth[row, column], 90, 50)
    assert figures["rmse"] < 0.5 * figures["rmse_offsets"] and vectors.shape == (50, 10)
    hidden = np.ones(truth.shape, bool)
    hidden[row, column] = False
    assert np.sqrt(np.mean((ratings - truth)[hidden] ** 2)) < 0.5 * truth.std()


def ratings_file(folder: Path, **columns: object) -> Path:
    rng = np.random.default_rng(0)
    table = {"user_id": [f"u{i}" for i in rng.integers(0, 40, 1_200)], "item_id": [f"i{i}" for i in rng.integers(0, 30, 1_200)],
             "rating": rng.integers(1, 6, 1_200).astype(float)}  # fmt: skip
    file = folder / "ratings.parquet"
    pl.DataFrame({name: value for name, value in (table | columns).items() if value is not None}).write_parquet(file)
    return file


def test_a_file_of_ratings_becomes_a_world(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = ratings_file(tmp_path)
    engine = make_engine(f"matrix,n_items=20,from={file}")
    engine.reset(0, 10)
    engine.step(np.zeros(10, np.int64))
    assert engine.n_items == 20 and engine.item_ids == sorted(engine.item_ids)
    assert "40 x 20 ratings completed from" in caplog.text and "held-out root mean squared error" in caplog.text
    assert isinstance(engine.world, Matrix) and engine.world.matrix.alike[1:, 1:].diagonal().all()
    share = engine.world.matrix.alike[1:, 1:].mean()
    assert 0.05 <= share < 0.2


def test_categories_of_the_file_say_what_is_alike(tmp_path: Path) -> None:
    ids = [f"i{i % 30}" for i in range(1_200)]
    file = ratings_file(
        tmp_path, item_id=ids, category=["A|B" if int(i[1:]) % 3 == 0 else "B" if int(i[1:]) % 3 == 1 else "C" for i in ids]
    )
    matrix = completed_matrix(str(file), 30)
    place = {name: i + 1 for i, name in enumerate(matrix.item_ids)}
    assert matrix.alike[place["i0"], place["i1"]] and not matrix.alike[place["i1"], place["i2"]] and matrix.alike[place["i2"], place["i5"]]


@pytest.mark.parametrize(
    "columns,text,code",
    [
        ({"item_id": ["one"] * 1_200}, "a matrix of at least 2 items, got 1", Code.BAD_MATRIX),
        ({"user_id": ["one"] * 1_200}, "a matrix of at least 2 users, got 1", Code.BAD_MATRIX),
        ({"rating": None}, "a column rating or watch_ratio or value, got user_id, item_id", Code.MISSING_COLUMN),
        ({"rating": [np.nan] + [1.0] * 1_199}, "finite numbers in the column of ratings", Code.BAD_VALUE),
        ({"rating": ["good"] * 1_200}, "finite numbers in the column of ratings", Code.BAD_VALUE),
    ],
)
def test_a_bad_matrix_is_named(tmp_path: Path, columns: dict[str, object], text: str, code: Code) -> None:
    with pytest.raises(UserError) as caught:
        make_engine(f"matrix,from={ratings_file(tmp_path, **columns)}")
    assert text in str(caught.value) and caught.value.code is code


def test_too_few_ratings_say_how_many_are_needed(tmp_path: Path) -> None:
    file = ratings_file(tmp_path)
    pl.read_parquet(file).head(50).write_parquet(file)
    with pytest.raises(UserError, match=f"at least {LEAST_RATINGS} ratings to complete a matrix from, got "):
        make_engine(f"matrix,from={file}")


@pytest.mark.parametrize(
    "name,text",
    [
        ("matrix,leave_similar=6", "leave_similar from 1 to leave_window (5), got 6"),
        ("matrix,leave_window=0", "leave_window from 2 to 20 for matrix, got 0"),
        ("matrix,leave_similar=0", "leave_similar from 1 to 20 for matrix, got 0"),
        ("matrix,slate_size=2", "slate_size=1 for matrix, got 2"),
        ("matrix,from=none.parquet", "a .parquet or .csv file of ratings, got no such file"),
    ],
)
def test_mistakes_are_named(name: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        make_engine(name)
    assert text in str(caught.value)


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match="a readable table of ratings"):
        make_engine(f"matrix,from={tmp_path / 'r.parquet'}")


def test_the_drawn_matrix_is_as_its_page_says() -> None:
    one, two = drawn_matrix(200, 0), drawn_matrix(200, 1)
    assert one.ratings.shape == (1_000, 200) and one.ratings.min() >= 1 and one.ratings.max() <= 5
    assert abs(one.ratings.mean() - 3) < 0.1 and 0.9 < one.ratings.std() < 1.25 and not np.array_equal(one.ratings, two.ratings)
    assert one.alike[1:, 1:].mean() == pytest.approx(1 / 20) and not one.alike[0].any()
    within = np.mean([one.ratings[:, np.array(one.categories) == c].std(axis=1).mean() for c in set(one.categories or ())])
    assert within < 0.8 * one.ratings.std(axis=1).mean(), "items of a category are liked alike"
