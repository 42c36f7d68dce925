"""The issue's "Bad input", line by line, through the command line: exit code, one line, nothing half-written, nothing lost.

Cases that other files test end to end: unknown option, command, column, k of 0 (test_cli.py); unknown algorithm, setting,
unknown user, Ctrl-C (test_commands.py); a full disk while a model is saved (policies/test_model.py), while a dataset is
written (mdp/test_dataset_files.py) and while a store commits (serving/test_store.py).
"""

import errno
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from qurate import files
from qurate.cli import app as cli
from qurate.errors import UserError
from qurate.mdp.rewards import parse_rewards
from qurate.training.train import train
from test_cli import one_error, run
from test_commands import SMALL, write_log

Capture = pytest.CaptureFixture[str]

HEADER = "user_id,item_id,type,timestamp\n"
T0 = 1_700_000_000


def refused(capsys: Capture, *args: object) -> str:
    """The only line on stderr of a command that must end with 2 and leave stdout empty."""
    code, out, err = run(capsys, *map(str, args))
    assert code == 2 and out == "", (code, out, err)
    return one_error(err)


def ingested(capsys: Capture, log: Path, *options: object, code: int = 0) -> Path:
    """Ingests a log that must be accepted; the dataset's directory."""
    out = log.with_name(f"{log.stem}-dataset")
    got, _, err = run(capsys, "ingest", str(log), "-o", str(out), *map(str, options))
    assert got == code, err
    return out


def rows(count: int, users: int = 10, items: int = 5, kind: str = "click") -> list[str]:
    """Clicks a minute apart, with a pause of an hour after every hundredth."""
    return [f"u{i % users},i{(i * i + i // users) % items},{kind},{T0 + i * 60 + i // 100 * 3_600}" for i in range(count)]


def write(path: Path, lines: list[str], header: str = HEADER) -> Path:
    path.write_text(header + "\n".join(lines) + "\n")
    return path


def manifest(dataset: Path) -> dict[str, object]:
    return json.loads((dataset / "dataset.json").read_text())  # type: ignore[no-any-return]


# Files


def test_missing_empty_directory_and_wrong_extension(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "log.xlsx").write_text("x")
    (tmp_path / "bare").write_text("x")
    (tmp_path / "header.csv").write_text(HEADER)
    (tmp_path / "noise.parquet").write_bytes(bytes(range(256)))
    for name in ("absent.csv", "empty.csv", "folder", "log.xlsx", "bare", "header.csv", "noise.parquet"):
        for command in (["ingest", tmp_path / name, "-o", tmp_path / "d"], ["validate", tmp_path / name]):
            assert name in refused(capsys, *command)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("command", ["inspect", "train", "evaluate", "recommend", "serve"])
def test_what_is_no_dataset_or_model_is_named(command: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for name in ("absent", "file", "folder"):
        rest = {"train": ["-o", tmp_path / "m"], "evaluate": ["--env", "toy_chain"], "recommend": ["--user", "u"]}.get(command, [])
        assert name in refused(capsys, command, tmp_path / name, *rest)
    assert not (tmp_path / "m").exists()


def test_a_table_of_items_or_users_that_cannot_be_used(tmp_path: Path, capsys: Capture) -> None:
    log = write_log(tmp_path / "log.csv")
    (tmp_path / "things.csv").write_text("thing,price\na,1\n")
    for option in ("--items", "--users"):
        assert "absent.csv" in refused(capsys, "ingest", log, "-o", tmp_path / "d", option, tmp_path / "absent.csv")
        line = refused(capsys, "ingest", log, "-o", tmp_path / "d", option, tmp_path / "things.csv")
        assert option[2:-1] + "_id" in line and "things.csv" in line
    assert not (tmp_path / "d").exists()


def test_tables_of_items_and_users_become_features_and_no_helper_column(tmp_path: Path, capsys: Capture) -> None:
    log = write_log(tmp_path / "log.csv")
    (tmp_path / "items.csv").write_text("item_id,price\n" + "".join(f"i{i},{i * 1.5}\n" for i in range(9)))
    (tmp_path / "people.csv").write_text("user_id,age,region\n" + "".join(f"u{i},{i % 3},{'ns'[i % 2]}\n" for i in range(30)))
    dataset = ingested(capsys, log, "--items", tmp_path / "items.csv", "--users", tmp_path / "people.csv")
    made = manifest(dataset)
    assert [column["name"] for column in made["item_spec"]["columns"]] == ["price"]  # type: ignore[index]
    assert [column["name"] for column in made["user_spec"]["columns"]] == ["age", "region"]  # type: ignore[index]


# Rows


def test_ragged_rows_bom_mixed_types_and_1_per_cent_broken_are_set_aside(tmp_path: Path, capsys: Capture) -> None:
    lines = rows(1_000)
    random.seed(0)
    places = sorted(random.sample(range(1_000), 10))
    broken = ["u1", "u1,i1,click", "u1,i1,click,1700000000,too,many", "u1,i1,click,soon", "u1,i1,click,NaN", "u1,i1,click,inf",
              ",i1,click,1", "u1,i1,click,-5", "u1,i1,click,", "\x00,\x00,\x00,\x00"]  # fmt: skip
    for place, line in zip(places, broken):
        lines[place] = line
    log = tmp_path / "log.csv"
    log.write_bytes(b"\xef\xbb\xbf" + (HEADER + "\n".join(lines) + "\n").encode())
    dataset = ingested(capsys, log)
    made = manifest(dataset)
    assert made["counts"]["events"] == 990 and made["counts"]["rejected"] == 10  # type: ignore[index]
    rejects = (dataset / "rejects.csv").read_text().splitlines()
    assert rejects[0] == "line,reason,raw" and [int(line.split(",")[0]) for line in rejects[1:]] == [place + 2 for place in places]


def test_duplicates_are_dropped_and_mentioned(tmp_path: Path, capsys: Capture) -> None:
    lines = rows(200)
    log = write(tmp_path / "log.csv", [*lines, *lines[:40]])
    code, out, err = run(capsys, "ingest", str(log), "-o", str(tmp_path / "d"), "--json")
    assert code == 0 and json.loads(out)["events"] == 200
    assert "note: " in err and "40" in err


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf", "1e999", "-1e999", "1e39", "-1e39"])
def test_values_that_are_no_numbers_never_reach_training(value: str, tmp_path: Path, capsys: Capture) -> None:
    lines = [f"u{i % 10},i{i % 5},watch,{T0 + i * 60},{value if i % 200 == 7 else i % 30}" for i in range(1_000)]
    log = write(tmp_path / "log.csv", lines, header="user_id,item_id,type,timestamp,value\n")
    model = train(ingested(capsys, log), steps=10, hidden=8, embedding_dim=4, window=6, batch_size=16)
    assert model.metrics["skipped"] == 0 and len(model.recommend("u7", 10).items) == 5


def test_the_unit_of_time_is_told_and_the_year_1970_refused(tmp_path: Path, capsys: Capture) -> None:
    for unit, factor in (("s", 1), ("ms", 1_000), ("us", 1_000_000)):
        lines = [f"u{i % 10},i{i % 5},click,{(T0 + i * 60) * factor}" for i in range(200)]
        log = write(tmp_path / f"{unit}.csv", lines)
        code, out, _ = run(capsys, "ingest", str(log), "-o", str(tmp_path / unit), "--json")
        assert code == 0 and json.loads(out)["time_unit"] == unit
    for name, stamp in (("1970.csv", 86_400), ("zero.csv", 0)):
        log = write(tmp_path / name, [f"u{i % 10},i{i % 5},click,{stamp + i}" for i in range(200)])
        assert "1970" in refused(capsys, "ingest", log, "-o", tmp_path / "d")
    mixed = [f"u{i % 10},i{i % 5},click,{(T0 + i) * (1 if i % 2 else 1_000)}" for i in range(200)]
    line = refused(capsys, "ingest", write(tmp_path / "mixed.csv", mixed), "-o", tmp_path / "d")
    assert "mixed.csv" in line and not (tmp_path / "d").exists()


def test_more_bad_rows_than_allowed_write_nothing_and_an_older_dataset_stays(tmp_path: Path, capsys: Capture) -> None:
    log = write_log(tmp_path / "log.csv")
    dataset = ingested(capsys, log)
    before = {p.name: p.read_bytes() for p in dataset.iterdir()}
    broken = log.read_text().splitlines()
    broken[5:25] = ["u1,i1,click,soon"] * 20
    log.write_text("\n".join(broken))
    refused(capsys, "ingest", log, "-o", dataset)
    assert {p.name: p.read_bytes() for p in dataset.iterdir()} == before


# Logs too small or too even to learn from


def can_be_used(capsys: Capture, dataset: Path, user: str) -> None:
    """Train, recommend, inspect and evaluate end in an answer or in one line, never in an internal error."""
    model = dataset.with_name("model")
    code, out, err = run(capsys, "train", str(dataset), "-o", str(model), "--steps", "5", "--json", *SMALL)
    assert code == 0 and json.loads(out)["steps"] == 5, err
    code, out, _ = run(capsys, "recommend", str(model), "--user", user, "--json")
    assert code == 0 and json.loads(out)["items"]
    for command in (["inspect", str(dataset)], ["evaluate", str(model), str(dataset)]):
        code, _, err = run(capsys, *command)
        assert code in (0, 2) and "internal error" not in err
        if code:
            one_error(err)


def test_one_user(tmp_path: Path, capsys: Capture) -> None:
    dataset = ingested(capsys, write(tmp_path / "log.csv", rows(200, users=1)))
    can_be_used(capsys, dataset, "u0")
    assert "Later choices of one user alone cannot tell" in (dataset.with_name("model") / "report.html").read_text()


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (["u1,i1,click,1700000000"], "event"),
        ([f"u{i % 5},i1,click,{T0 + i * 60}" for i in range(100)], "item"),
        ([f"u{i},i{i % 7},click,{T0 + i * 60}" for i in range(100)], "history"),
    ],
    ids=["one event", "one item", "nobody comes twice"],
)
def test_logs_from_which_nothing_can_be_learnt_are_refused(lines: list[str], word: str, tmp_path: Path, capsys: Capture) -> None:
    line = refused(capsys, "ingest", write(tmp_path / "log.csv", lines), "-o", tmp_path / "d")
    assert word in line and not (tmp_path / "d").exists()


def test_all_rewards_zero(tmp_path: Path, capsys: Capture) -> None:
    log = write_log(tmp_path / "log.csv")
    assert "all rewards zero" in refused(capsys, "ingest", log, "-o", tmp_path / "d", "--rewards", "click=0,purchase=0")
    never = ingested(capsys, log, "--rewards", "cart=1")  # a weight for what nobody did
    assert "reward 0" in refused(capsys, "train", never, "-o", tmp_path / "m")
    dataset = ingested(capsys, log)
    assert "all rewards zero" in refused(capsys, "train", dataset, "-o", tmp_path / "m", "--rewards", "click=0")
    assert "all rewards zero" in refused(capsys, "train", "--env", "shop", "-o", tmp_path / "m", "--rewards", "click=0")
    assert not (tmp_path / "m").exists()


def test_a_constant_bellman_solution_is_refused_with_its_value(tmp_path: Path, capsys: Capture) -> None:
    """One reward per click and no end: Q = 1 / (1 - gamma) whatever is shown."""
    without_pause = [f"u{i % 10},i{(i * i + i // 10) % 5},click,{T0 + i * 60}" for i in range(600)]
    dataset = ingested(capsys, write(tmp_path / "log.csv", without_pause), "--episode", "user")
    line = refused(capsys, "train", dataset, "-o", tmp_path / "m")
    assert "1 / (1 - gamma)" in line and "--episode session" in line and not (tmp_path / "m").exists()
    ends = ingested(capsys, write(tmp_path / "ends.csv", rows(600)), "--episode", "session")
    assert run(capsys, "train", str(ends), "-o", str(tmp_path / "m"), "--steps", "3", *SMALL)[0] == 0


# Names


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["ingest", "LOG", "-o", "NEW", "--rewards", "clik=1"], "did you mean click?"),
        (["ingest", "LOG", "-o", "NEW", "--rewards", "click=much"], "got much"),
        (["ingest", "LOG", "-o", "NEW", "--rewards", "click"], "TYPE=WEIGHT"),
        (["ingest", "LOG", "-o", "NEW", "--rewards", "click=1,click=2"], "click twice"),
        (["ingest", "LOG", "-o", "NEW", "--rewards", '{"click": 1, "click": 2}'], "click twice"),
        (["ingest", "LOG", "-o", "NEW", "--rewards", "click=1e39"], "got 1e39"),
        (["ingest", "LOG", "-o", "NEW", "--rewards", '{"click": {"weight": 1, "per": "value", "cap": -5}}'], "a cap above 0, got -5"),
        (["ingest", "LOG", "-o", "NEW", "--map", "item_id=itm"], "itm"),
        (["ingest", "LOG", "-o", "NEW", "--map", "itm_id=item_id"], "did you mean item_id?"),
        (["ingest", "LOG", "-o", "NEW", "--layout", "trivag"], "did you mean trivago?"),
        (["ingest", "LOG", "-o", "NEW", "--churn-after", "long"], "'long'"),
        (["train", "--env", "toy_chian", "-o", "NEW"], "did you mean toy_chain?"),
        (["train", "--env", "toy_chain", "-o", "NEW", "--rewards", "wach=1"], "did you mean watch?"),
        (["train", "--env", "toy_chain", "-o", "NEW", "--rewards", '{"watch": {"weight": 1, "per": "value"}}'], "ingest --rewards"),
        (["train", "--env", "toy_chain", "-o", "NEW", "--algorithm", "rainbw"], "--algorithm"),
        (["train", "--env", "toy_chain", "-o", "NEW", "--set", "encoder=grue"], "'grue'"),
        (["train", "--env", "toy_chain", "-o", "NEW", "--set", "lr=inf"], "lr: a number of at most 3.4e+38, got 'inf'"),
        (["train", "--env", "toy_chain", "-o", "NEW", "--set", "aux_weight=nan"], "'nan'"),
        (["simulate", "shop", "-o", "NEW.csv", "--policy", "populrity"], "did you mean popularity?"),
        (["simulate", "shop", "-o", "NEW.csv", "--trace", "-1"], "--trace"),
        (["simulate", "shp", "-o", "NEW.csv"], "got shp, at the scenario; did you mean shop?"),
        (["simulate", "toy_chain", "-o", "NEW.csv", "--slate", "3"], "slate_size"),
        (["simulate", "shop,slate_size=3", "-o", "NEW.csv", "--slate", "2"], "one size of slates, got --slate 2 and slate_size=3"),
    ],
)
def test_unknown_names_name_the_nearest(args: list[str], word: str, tmp_path: Path, capsys: Capture) -> None:
    log = write_log(tmp_path / "log.csv")
    places = {"LOG": str(log), "NEW": str(tmp_path / "new"), "NEW.csv": str(tmp_path / "new.csv")}
    assert word in refused(capsys, *[places.get(arg, arg) for arg in args])
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_rewards_that_are_no_mapping_and_seeds_below_zero() -> None:
    with pytest.raises(UserError, match="weights by event type"):
        parse_rewards(["click"])  # type: ignore[arg-type]
    for seed in (-1, 2**63):
        with pytest.raises(UserError, match=f"a seed of 0 or more, below 2.*, got {seed}"):
            train(env="toy_chain", seed=seed)


def test_a_log_whose_columns_nobody_knows(tmp_path: Path, capsys: Capture) -> None:
    log = write(tmp_path / "log.csv", rows(10), header="who,what,how,when\n")
    line = refused(capsys, "ingest", log, "-o", tmp_path / "d")
    assert "who" in line and "--map" in line


# Models and simulated worlds


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model from a toy, with its checkpoint."""
    path = tmp_path_factory.mktemp("toy") / "model"
    assert cli.main(["train", "--env", "toy_chain", "-o", str(path), "--steps", "128", "--quiet", "--json", *SMALL]) == 0
    return path


def test_a_model_of_another_world_is_refused(toy: Path, tmp_path: Path, capsys: Capture) -> None:
    for command in (
        ["simulate", "shop", "-o", tmp_path / "log.csv", "--policy", toy],
        ["evaluate", toy, "--env", "shop", "--seeds", 1],
        ["compare", toy, "--env", "shop", "--seeds", 1],
    ):
        assert "toy_chain" in refused(capsys, *command)


def test_a_model_from_a_world_has_no_users(toy: Path, tmp_path: Path, capsys: Capture) -> None:
    code, out, err = run(capsys, "recommend", str(toy), "--user", "u1", "--json")
    assert code == 0 and json.loads(out)["degraded"] == "unknown_user" and "unknown_user" in err
    assert "--all-users" in refused(capsys, "recommend", toy, "--all-users", "-o", tmp_path / "all.csv")
    assert not (tmp_path / "all.csv").exists()


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [flipped, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
@pytest.mark.parametrize("name", ["optimiser.safetensors", "state.json", "replay.safetensors"])
def test_a_damaged_checkpoint_is_not_resumed_and_the_model_still_answers(
    name: str, damage: Callable[[Path], None], toy: Path, tmp_path: Path, capsys: Capture
) -> None:
    mine = tmp_path / "m"
    shutil.copytree(toy, mine)
    damage(mine / "checkpoint" / name)
    assert name in refused(capsys, "train", "--resume", mine, "-o", tmp_path / "on")
    assert run(capsys, "recommend", str(mine), "--user", "u")[0] == 0 and not (tmp_path / "on").exists()


def test_options_that_belong_to_the_saved_run_are_not_ignored(toy: Path, tmp_path: Path, capsys: Capture) -> None:
    for options in (["--set", "lr=0.1"], ["--rewards", "watch=2"], ["--algorithm", "myopic"], ["--env", "shop"]):
        assert options[0] in refused(capsys, "train", "--resume", toy, "-o", tmp_path / "on", *options)
    line = refused(capsys, "train", "--resume", toy, "-o", tmp_path / "on", "--seed", "5")
    assert "the saved run's seed, 0, got 5" in line and not (tmp_path / "on").exists()
    with pytest.raises(UserError, match="got 5"):
        train(resume=toy, seed=5)
    assert train(resume=toy, seed=0, steps=192).metrics["steps"] == train(resume=toy, steps=192).metrics["steps"] == 192
    train(env="toy_chain", seed=5, steps=64, hidden=8, embedding_dim=4).save(tmp_path / "five")
    assert "got 0" in refused(capsys, "train", "--resume", tmp_path / "five", "-o", tmp_path / "on", "--seed", "0")


def test_a_damaged_dataset_is_refused_by_every_command(tmp_path: Path, capsys: Capture) -> None:
    dataset = ingested(capsys, write_log(tmp_path / "log.csv"))
    flipped(dataset / "events.parquet")
    for command in (["inspect", dataset], ["train", dataset, "-o", tmp_path / "m"]):
        assert "events.parquet" in refused(capsys, *command)


def test_a_model_whose_training_data_is_gone_or_changed(tmp_path: Path, capsys: Capture) -> None:
    log = write_log(tmp_path / "log.csv")
    dataset, model = ingested(capsys, log), tmp_path / "m"
    assert run(capsys, "train", str(dataset), "-o", str(model), "--no-histories", "--steps", "3", *SMALL)[0] == 0
    shutil.move(dataset, tmp_path / "elsewhere")
    code, out, _ = run(capsys, "recommend", str(model), "--user", "u1", "--json")
    assert code == 0 and json.loads(out)["degraded"] == "unknown_user"
    assert "no such directory" in refused(capsys, "recommend", model, "--all-users", "-o", tmp_path / "all.csv")
    refused(capsys, "train", "--resume", model, "-o", tmp_path / "on")
    code, _, _ = run(capsys, "train", str(tmp_path / "elsewhere"), "--resume", str(model), "-o", str(tmp_path / "on"), "--steps", "5")
    assert code == 0
    log.write_text(log.read_text().replace("u3,", "someone,"))
    assert ingested(capsys, log) == dataset
    assert "another one" in refused(capsys, "recommend", model, "--user", "u1")


# The machine


def test_a_full_disk_is_exit_code_1_and_what_was_there_stays(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_log(tmp_path / "log.csv")
    dataset = ingested(capsys, log)
    before = {p.name: p.read_bytes() for p in dataset.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    code, out, err = run(capsys, "ingest", str(log), "-o", str(dataset))
    assert code == 1 and out == "" and "No space left" in one_error(err)
    assert {p.name: p.read_bytes() for p in dataset.iterdir()} == before


@pytest.mark.parametrize("error", [OSError("No space left (os error 28)"), pl.exceptions.ComputeError("parquet: No space left")])
def test_a_log_cut_by_a_full_disk_leaves_no_part(
    error: Exception, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_table: pl.DataFrame, path: Path) -> None:
        path.write_bytes(b"PAR1")
        raise error

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    code, _, err = run(capsys, "simulate", "toy_chain", "-o", str(tmp_path / "ev.parquet"), "--users", "2", "--steps", "2")
    assert code == 1 and "a place to write the log" in one_error(err) and not list(tmp_path.iterdir())
    whole = pl.DataFrame.write_csv

    def cut(table: pl.DataFrame, path: Path, **more: Any) -> None:
        full(table, path) if "decisions" in path.name else whole(table, path, **more)

    monkeypatch.setattr(pl.DataFrame, "write_csv", cut)
    code, _, err = run(capsys, "simulate", "toy_chain", "-o", str(tmp_path / "ev.csv"), "--users", "2", "--steps", "2")
    assert code == 1 and "a place to write the log" in one_error(err)
    assert not (tmp_path / "ev.csv").exists(), "no events without their decisions, which would be another kind of log"


def test_where_nothing_can_be_written(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("x")
    for command in (
        ["simulate", "toy_chain", "-o", str(tmp_path / "file" / "log.csv"), "--users", "2", "--steps", "2"],
        ["train", "--env", "toy_chain", "-o", str(tmp_path / "file" / "m"), "--steps", "64", *SMALL],
    ):
        code, out, err = run(capsys, *command)
        assert code in (1, 2) and out == "" and "file" in one_error(err)
