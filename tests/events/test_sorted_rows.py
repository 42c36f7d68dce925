"""Rows without times that are sorted as tables are: said in the plan, kept in the dataset and said beside figures."""

import random
from pathlib import Path

import pytest

from qurate import build_dataset, evaluate, read_events, train
from qurate.cli.app import main
from qurate.events.sorted_rows import sorted_by, sorted_ties

USERS, EACH = 40, 12


def rows_of(order: str) -> list[tuple[str, int, int]]:
    draw = random.Random(0)
    out = []
    for u in range(USERS):
        listens = [(draw.randrange(1, 400), draw.randrange(1, 90)) for _ in range(EACH)]
        if order == "item":
            listens.sort()
        elif order == "falling value":
            listens.sort(key=lambda one: -one[1])
        out += [(f"u{u}", item, plays) for item, plays in listens]
    return out


def write(path: Path, order: str, times: bool = False) -> Path:
    lines = [f"{user},{item},{plays}" + (f",{1_717_200_000 + i}" if times else "") for i, (user, item, plays) in enumerate(rows_of(order))]
    head = "userID,artistID,weight" + (",timestamp" if times else "")
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


@pytest.mark.parametrize(("order", "said"), [("item", "item_id"), ("falling value", "value"), ("any", None)])
def test_what_each_users_rows_are_sorted_by(order: str, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "user_artists.csv", order)
    log = read_events(path)
    assert log.time_unit == "order" and sorted_by(log) == said
    assert main(["ingest", str(path), "--plan", "--rewards", "listen=1"]) == 0
    assert (f"sorted by {said}" in capsys.readouterr().out) == (said is not None)
    assert build_dataset(log, rewards={"listen": 1}).manifest.get("sorted_by") == said


def test_numbers_are_sorted_as_numbers_and_text_as_text(tmp_path: Path) -> None:
    """9 stands before 10; as text it would not."""
    rows = [f"u{u},{9 - u % 2 + i}" for u in range(USERS) for i in range(8)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    assert sorted_by(read_events(tmp_path / "log.csv", order="")) == "item_id"
    named = [f"u{u},a{u % 3}{'bcdefghi'[i]}" for u in range(USERS) for i in range(8)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id", *named]) + "\n")
    assert sorted_by(read_events(tmp_path / "log.csv", order="")) == "item_id"


def test_rows_that_name_the_same_item_again_go_neither_way(tmp_path: Path) -> None:
    rows = [f"u{u},{u % 2 + i // 3}" for u in range(USERS) for i in range(30)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    assert sorted_by(read_events(tmp_path / "log.csv", order="", keep_duplicates=True)) == "item_id"


def test_times_are_an_order_and_few_rows_say_nothing(tmp_path: Path) -> None:
    timed = write(tmp_path / "timed.csv", "item", times=True)
    assert sorted_by(read_events(timed, map={"user_id": "userID", "item_id": "artistID"})) is None
    (tmp_path / "few.csv").write_text("user_id,item_id\n" + "".join(f"u{u},{i}\n" for u in range(9) for i in range(20)))
    assert sorted_by(read_events(tmp_path / "few.csv", order="")) is None


def test_figures_say_that_they_measure_the_sorting(tmp_path: Path) -> None:
    data = build_dataset(read_events(write(tmp_path / "user_artists.csv", "item")), rewards={"listen": 1})
    result = evaluate(train(data, algorithm="popularity"), data).to_dict()
    assert "sorted by item_id" in result["caption"]


@pytest.mark.parametrize(("order", "share"), [("sorted", 0.5), ("any", None), ("each a second", None)])
def test_events_of_one_time_that_are_sorted(order: str, share: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two events in each minute, six minutes: 6 of 11 pairs bear one time."""
    draw, lines = random.Random(0), []
    for u in range(60):
        for minute in range(6):
            items = draw.sample(range(5, 400), 2)
            items = items if order == "any" else sorted(items)
            lines += [f"u{u},{item},{1_717_200_000 + 60 * minute + (i if order == 'each a second' else 0)}" for i, item in enumerate(items)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
    found = sorted_ties(read_events(tmp_path / "log.csv"))
    assert found is None if share is None else found == pytest.approx(6 / 11)
    data = build_dataset(read_events(tmp_path / "log.csv"), rewards={"click": 1}, episode="user")
    assert data.manifest.get("sorted_ties") == (None if share is None else 0.5455)
    if share is not None:
        assert "55% of the events" in evaluate(train(data, algorithm="popularity"), data).to_dict()["caption"]
    assert main(["ingest", str(tmp_path / "log.csv"), "--plan"]) == 0
    assert ("55% of the events bear the very time" in capsys.readouterr().out) == (share is not None)
