"""The study of cold start and drift: its counts against hand values, and one short run from end to end."""

import csv
from dataclasses import replace
from pathlib import Path

import cold_start
import cold_start_tables
import numpy as np
import pytest
from cold_start import Note, Watched, closed, exposure, first_decisions, play
from numpy.typing import NDArray

from qurate.baselines.registry import random_policy
from qurate.environments.scenarios.live import Live
from qurate.environments.scenarios.shop import Shop
from qurate.environments.scenarios.shop_references import shop_of
from qurate.evaluation.rollouts import Rollout
from qurate.types import Availability, IntArray, Observation

MARKS = "".join(f"<!-- {part} -->\nold\n<!-- end {part} -->\nwords\n" for part in ("users", "items", "rooms", "drift"))


class Shows:
    """Always the same position."""

    name = "shows"

    def __init__(self, position: int) -> None:
        self.position = position

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[IntArray, NDArray[np.float64]]:
        positions = np.full(len(observation.actions.mask), self.position)
        return positions, np.ones(positions.shape)


def test_the_first_five_decisions_of_three_customers() -> None:
    """They bring 3, 2, 1, 0 and 1; one customer leaves after the first decision, one after the third; two more decisions follow."""
    none = np.zeros(0)
    played = Rollout(
        none, none, none.astype(int), none.astype(int), none, none.astype(bool), np.array([3, 2, 2, 1, 1, 1, 1]),
        np.array([3.0, 2.0, 1.0, 0.0, 1.0, 5.0, 4.0]), none.astype(int), none, [], [],
    )  # fmt: skip
    assert first_decisions(played) == {"first": 7 / 3, "per_decision_first": 7 / 9, "per_decision_later": 4.5}


def test_exposure_by_hand() -> None:
    """8 decisions, 3 of a new item where chance shows 2: rewards of 1.5 each, and 3 of the five others."""
    notes = [Note(4.0, 4, 1.0, 1.0, 1.5), Note(3.5, 4, 2.0, 1.0, 3.0)]
    assert exposure(notes) == pytest.approx({"exposure": 1.5, "reward_new": 1.5, "reward_others": 0.6, "reward_all": 0.9375})
    nothing = exposure([Note(4.0, 4, 0.0, 1.0, 0.0)])
    assert nothing["exposure"] == 0 and np.isnan(nothing["reward_new"])


def shop_with_late_items(late: NDArray[np.bool_], change_after: int) -> Watched:
    world = Shop(n_items=50)
    world.availability = closed(world.availability, late)

    def arrive(engine: Watched) -> None:
        engine.availability = Availability.always(50)

    return Watched(world, 4, is_new=lambda items, clock: late[items], change_after=change_after, change=arrive)


def test_chance_exposes_new_items_as_often_as_there_are_and_who_shows_nothing_else_five_times_so() -> None:
    late = np.arange(51) % 5 == 1
    engine = shop_with_late_items(late, 640)
    play(engine, random_policy(), 0, 640 + 12_800)
    before, after = engine.notes[:10], engine.notes[11:]  # the first decision after the change was offered what was open before it
    assert cold_start.noted(before)[2:] == (0.0, 0.0, 0.0), "closed items are not offered"
    n = 64 * len(after)
    assert exposure(after)["exposure"] == pytest.approx(1, abs=4 * np.sqrt(0.2 * 0.8 / n) / 0.2)
    only = shop_with_late_items(late, 0)
    only.availability = Availability.always(50)
    play(only, Shows(0), 0, 640)
    assert exposure(only.notes[1:])["exposure"] == pytest.approx(5)


def test_a_young_room_is_one_that_opened_within_the_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Part `rooms` with policies that know nothing: random's exposure is 1 within its interval, and its rows are whole."""
    monkeypatch.setattr(cold_start, "fixed_policies", lambda engine, seed, size: {"random": random_policy()})
    monkeypatch.setattr(cold_start, "learned", lambda engine, algorithm, seed, size, after: None)
    monkeypatch.setattr(cold_start, "as_policy", lambda model, engine, name: Shows(0))
    monkeypatch.setattr(cold_start, "REFERENCES", ())
    size = cold_start.QUICK._replace(warm=6_400, after=6_400)
    rows = {(policy, measure): value for _, policy, measure, value in cold_start.rooms(0, size)}
    assert rows["random", "exposure"] == pytest.approx(1, abs=4 * np.sqrt(0.1 / 12_800) / 0.1)
    assert {policy for policy, _ in rows} == {"random", "dqn"} and len(rows) == 8


def test_closed_rooms_are_closed_and_the_others_as_they_were() -> None:
    world = Live()
    late = np.arange(601) % 2 == 0
    shut = closed(world.availability, late)
    clock = np.int64(world.availability.since[300] + 60_000_000)
    everything = np.arange(1, 601)
    assert np.array_equal(shut.is_open(everything, clock), world.availability.is_open(everything, clock) & ~late[1:])
    assert np.array_equal(shut.open_items(int(clock)), [i for i in world.availability.open_items(int(clock)) if not late[i]])


def test_the_switch_comes_after_so_many_decisions_and_windows_are_counted_from_it() -> None:
    engine = Watched(Shop(), 4, change_after=512, change=lambda engine: shop_of(engine).switch_now())
    plain = Watched(Shop(), 4)
    for one in (engine, plain):
        play(one, Shows(7), 3, 1_024)
    assert engine.made == 1_024
    assert engine.notes[:8] == plain.notes[:8] and engine.notes[8:] != plain.notes[8:]
    rows = {measure: value for _, _, measure, value in cold_start._windows("x", engine, window=128, after=512)}
    assert list(rows) == [f"window {i}" for i in range(-4, 4)]
    assert rows["window -1"] == pytest.approx(sum(n.reward for n in engine.notes[6:8]) / 128)
    assert rows["window 0"] == pytest.approx(sum(n.reward for n in engine.notes[8:10]) / 128)


def test_a_learner_goes_on_in_the_engine_after_the_switch() -> None:
    """The same until the switch as without it; the model that stopped there is returned."""
    size = cold_start.QUICK._replace(before=256)
    engines = [Watched(Shop(n_items=80), 20, change_after=256, change=change) for change in (None, lambda e: shop_of(e).switch_now())]
    models = [cold_start.learned(engine, "dqn", 5, size, 512) for engine in engines]
    assert [engine.made for engine in engines] == [768, 768] and [model.metrics["steps"] for model in models] == [256, 256]
    before, after = ([engine.notes[part] for engine in engines] for part in (slice(4), slice(4, None)))
    assert before[0] == before[1] and after[0] != after[1]


def test_recovery_is_the_end_of_the_first_window_within_five_per_cent() -> None:
    assert cold_start_tables.recovery(2.0, [1.0, 1.89, 1.9, 1.5], 100) == 300
    assert cold_start_tables.recovery(2.0, [1.0, 1.8], 100) is None
    assert cold_start_tables.recovery(2.0, [2.5], 100) == 100


def test_a_table_has_the_means_of_the_seeds_and_says_who_never_recovers(tmp_path: Path) -> None:
    file = tmp_path / "cold.csv"
    for seed, level in ((1, 2.0), (2, 4.0)):
        windows = [("drift", "static", f"window {i}", level * share) for i, share in ((-1, 1.0), (0, 0.5), (1, 0.9), (2, 0.96))]
        users = [("users", name, m, level) for name in ("static", "dqn") for m in ("first", "per_decision_first", "per_decision_later")]
        cold_start.add(file, seed, [*windows, ("drift", "dqn", "window -1", 1.0), ("drift", "dqn", "window 0", 0.5), *users])
    page = cold_start_tables.page_with(MARKS, [line for line in cold_start.lines(file) if line["policy"] != "dqn"], 100)
    assert "| best static list | 3.00 +- 12.71 | 1.50 +- 6.35 | 2.70 +- 11.44 | 2.88 +- 12.20 | 300 |" in page
    assert "old" not in page and page.count("words") == 4 and "seeds 1, 2" in page and page.count("Not measured.") == 2
    assert cold_start_tables.page_with(page, [line for line in cold_start.lines(file) if line["policy"] != "dqn"], 100) == page
    found = cold_start_tables.values_of(cold_start.lines(file), "drift")
    found["static"]["window 2"].pop(2)
    assert "| best static list | 2.00 | 1.00 | 1.80 | 1.92 | 300 |" in cold_start_tables.drift({"static": found["static"]}, 100)
    assert "| DQN, stopped | 1.00 +- 0.00 | 0.50 +- 0.00 | never within 100 |" in cold_start_tables.drift({"dqn": found["dqn"]}, 100)


def test_a_quick_run_does_not_write_into_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cold_start.main(["--quick"])
    assert "--quick needs --csv and --page" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_measures_writes_the_page_and_measures_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = replace(cold_start.QUICK.search, customers=8, length=1, pool=2, explorers=32)
    monkeypatch.setattr(cold_start, "QUICK", cold_start.QUICK._replace(before=512, after=256, on=512, window=128, warm=256, search=search))
    file, page = tmp_path / "cold.csv", tmp_path / "page.md"
    page.write_text(MARKS)
    arguments = ["--quick", "--seeds", "4", "--csv", str(file), "--page", str(page)]
    cold_start.main(arguments)
    first, table = file.read_bytes(), page.read_text()
    assert capsys.readouterr().out.count("lines after") == 3
    cold_start.main(arguments)
    assert file.read_bytes() == first and page.read_text() == table and not capsys.readouterr().out
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    of = {part: {row["policy"] for row in rows if row["part"] == part} for part in ("users", "drift", "items", "rooms")}
    everybody = {name for name in cold_start_tables.LABELS if not name.endswith("+")}
    assert of["users"] == everybody and of["rooms"] == everybody - {"myopic"}
    assert of["drift"] == set(cold_start_tables.LABELS) and of["items"] == set(cold_start_tables.LABELS) - {"myopic"}
    assert "Not measured." not in table
    exposed = [float(r["value"]) for r in rows if r["part"] == "items" and r["policy"] == "popularity" and r["measure"] == "exposure"]
    assert exposed == [0.0], "what was never in a log has no popularity"
