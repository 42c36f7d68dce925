"""The commands on small logs: what they write, what they answer, and what they refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forked import Forked
from forked import command as in_process
from qurate.cli import app as cli
from qurate.events.readers import read_events
from qurate.experiments.compare import compare
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import load as load_model
from test_cli import COMPARISON, one_error, run


def write_log(path: Path, users: int = 30, rows: int = 12) -> Path:
    """A small shop log: every user clicks through the items, every third row is a purchase."""
    lines = ["user_id,item_id,type,timestamp"]
    for user in range(users):
        for step in range(rows):
            kind = "purchase" if step % 3 == 2 else "click"
            lines.append(f"u{user},i{(user + step * step) % 9},{kind},{1_700_000_000 + user * 7919 + step * 600}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_ingest_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, dataset = write_log(tmp_path / "log.csv"), tmp_path / "dataset"
    code, out, err = run(capsys, "ingest", str(log), "-o", str(dataset), "--json", "--quiet")
    assert code == 0 and err == "" and out.count("\n") == 1
    made = json.loads(out)
    assert made.pop("plan")["types"][0] == {"type": "click", "rows": 240, "weight": 1.0, "per_value": False, "reward": 240.0}
    assert made == {
        "dataset": str(dataset), "layout": "qurate", "kind": "organic", "events": 360, "decisions": 0,
        "users": 30, "items": 9, "rejected": 0, "time_unit": "s",
    }  # fmt: skip
    assert (dataset / "dataset.json").is_file()
    code, out, err = run(capsys, "ingest", str(log), "-o", str(dataset))
    assert code == 0 and "events: 360" in out and "kind: organic" in out
    assert "reading: " in err and "error" not in err


def test_columns_are_named_with_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log.csv")
    log.write_text(log.read_text().replace("user_id,item_id,type,timestamp", "who,what,did,at"))
    names = ["--map", "user_id=who", "item_id=what", "type=did", "timestamp=at"]
    code, out, _ = run(capsys, "ingest", str(log), "-o", str(tmp_path / "dataset"), *names, "--json")
    assert code == 0 and json.loads(out)["events"] == 360


@pytest.mark.parametrize("episode", ["session", "user"])
def test_where_episodes_end_is_written_down(episode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = tmp_path / "dataset"
    code, _, _ = run(
        capsys, "ingest", str(write_log(tmp_path / "log.csv")), "-o", str(dataset), "--episode", episode, "--churn-after", "2d"
    )
    rule = json.loads((dataset / "dataset.json").read_text())["episode"]
    assert code == 0 and rule["rule"] == episode and rule["churn_after_s"] == 172_800


def test_a_log_that_cannot_be_used_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, dataset = write_log(tmp_path / "log.csv"), tmp_path / "dataset"
    broken = log.read_text().splitlines()
    broken[5:25] = ["u1,i1,click,soon"] * 20
    (tmp_path / "broken.csv").write_text("\n".join(broken))
    (tmp_path / "empty.csv").touch()
    for name, word in (("absent.csv", "absent.csv"), ("empty.csv", "empty.csv"), ("broken.csv", "broken.csv"), ("", "")):
        code, out, err = run(capsys, "ingest", str(tmp_path / "none" / name) if not name else str(tmp_path / name), "-o", str(dataset))
        assert code == 2 and out == "" and word in one_error(err)
        assert not dataset.exists()
    code, _, _ = run(capsys, "ingest", str(tmp_path / "broken.csv"), "-o", str(dataset), "--max-bad", "10%")
    assert code == 0 and len((dataset / "rejects.csv").read_text().splitlines()) == 21


def test_validate_passes_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log.csv")
    code, out, err = run(capsys, "validate", str(log), "--quiet")
    assert code == 0 and err == "" and "PASS" in out and "FAIL" not in out
    broken = log.read_text().splitlines()
    broken[5:25] = ["u1,i1,click,1970-01-01T00:00:00Z"] * 20
    log.write_text("\n".join(broken))
    code, out, _ = run(capsys, "validate", str(log))
    assert code == 2 and "FAIL" in out
    code, out, _ = run(capsys, "validate", str(log), "--json")
    result = json.loads(out)
    assert code == 2 and set(result) == {"ok", "checks", "notes", "plan"} and result["ok"] is False
    failed = [check for check in result["checks"] if not check["ok"]]
    assert all(set(check) == {"name", "ok", "count", "rows", "message"} for check in result["checks"])
    assert failed and failed[0]["count"] >= 19 and failed[0]["rows"][0] in (6, 7)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_log(folder / "log.csv", users=60, rows=20)
    assert cli.main(["ingest", str(folder / "log.csv"), "-o", str(folder / "dataset"), "--quiet", "--json"]) == 0
    return folder / "dataset"


SMALL = ["--set", "hidden=8", "embedding_dim=4", "window=5", "batch_size=16"]


@pytest.fixture(scope="module")
def model(dataset: Path) -> Path:
    path = dataset.with_name("model")
    assert cli.main(["train", str(dataset), "-o", str(path), "--steps", "20", "--quiet", "--json", *SMALL]) == 0
    return path


def test_train_says_what_it_did(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model"
    code, out, err = run(capsys, "train", str(dataset), "-o", str(path), "--steps", "20", "--json", *SMALL)
    result = json.loads(out)
    assert code == 0 and set(result) == {"model", "algorithm", "steps", "seconds", "stopped", "metrics"}
    assert (result["model"], result["algorithm"], result["steps"], result["stopped"]) == (str(path), "dqn", 20, "steps")
    assert "training" in err and (path / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--algorithm", "dqm"], "did you mean dqn?"),
        (["--set", "gama=0.9"], "did you mean gamma?"),
        (["--set", "gamma=2"], "gamma"),
        (["--rewards", "clik=1"], "did you mean click?"),
        (["--resume", "nowhere"], "nowhere"),
    ],
)
def test_what_train_refuses(args: list[str], word: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "train", str(dataset), "-o", str(tmp_path / "m"), *args)
    assert code == 2 and out == "" and word in one_error(err)
    assert not (tmp_path / "m").exists()


def test_train_looks_at_the_place_for_the_model_first(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", str(dataset), "-o", str(dataset))
    assert code == 2 and str(dataset) in one_error(err)


def test_recommend_answers_with_the_contracts_decision(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "recommend", str(model), "--user", "u1", "-k", "3", "--exclude", "none", "--json")
    decision = json.loads(out)
    assert code == 0 and err == ""
    assert set(decision) == {"decision_id", "user_id", "items", "policy", "model_version", "degraded"}
    assert decision["user_id"] == "u1" and decision["degraded"] is None and len(decision["items"]) == 3
    assert set(decision["items"][0]) == {"item_id", "score", "propensity", "source"}
    first = [item["item_id"] for item in decision["items"]]
    code, out, _ = run(capsys, "recommend", str(model), "--user", "u1", "-k", "3", "--exclude", f"none,{first[0]}", "--explain", "--json")
    items = json.loads(out)["items"]
    assert [item["item_id"] for item in items][:2] == first[1:]
    assert all(item["now"] + item["later"] == pytest.approx(item["score"], abs=1e-4) for item in items)
    code, out, _ = run(
        capsys, "recommend", str(model), "--user", "u1", "--candidates", f"{first[2]},{first[1]}", "--exclude", "none", "--json"
    )
    assert [item["item_id"] for item in json.loads(out)["items"]] == first[1:]


def test_fallbacks_are_notes_not_errors(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "recommend", str(model), "--user", "nobody", "--json")
    assert code == 0 and json.loads(out)["degraded"] == "unknown_user" and "the answer is a fallback (unknown_user)" in err
    code, out, err = run(capsys, "recommend", str(model), "--user", "u1", "--exclude", "none", "-k", "99", "--json")
    assert code == 0 and len(json.loads(out)["items"]) == 9 and "99 were asked for" in err
    for user, k in (("u1", "100000"), ("nobody", str(10**30))):
        code, out, err = run(capsys, "recommend", str(model), "--user", user, "--exclude", "none", "-k", k, "--json")
        assert code == 0 and len(json.loads(out)["items"]) == 9 and f"note: 9 items can be shown, {k} were asked for" in err
    code, out, err = run(capsys, "recommend", str(model), "--user", "u1", "--exclude", "none", "-k", "99", "--quiet")
    assert code == 0 and err == "" and "item_id" in out


def test_everybody_gets_the_catalogue_and_a_note_where_it_is_small(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["recommend", str(model), "--all-users", "--exclude", "none", "-o", str(tmp_path / "all.csv")]
    code, out, err = run(capsys, *command, "-k", "1000", "--json")
    assert code == 0 and json.loads(out)["rows"] == 540 and "note: 9 items can be shown, 1000 were asked for" in err
    assert "note" not in run(capsys, *command, "-k", "9")[2] and run(capsys, *command, "-k", "1000", "--quiet")[2] == ""


def test_a_file_of_recommendations_has_titles_where_items_have_them() -> None:
    from qurate.cli.table_files import with_titles

    table = pl.DataFrame({"user_id": ["u", "u"], "rank": [1, 2], "item_id": ["a", "b"], "score": [0.5, 0.25]})
    (named,) = with_titles([table], {"a": "红茶"})
    assert named.columns == ["user_id", "rank", "item_id", "score", "title"] and named["title"].to_list() == ["红茶", None]
    assert next(with_titles([table], {})).equals(table)


def test_ties_fall_by_the_seed(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_model(model)
    even = loaded.with_answering(popularity=np.ones_like(loaded.popularity), supports_cold_start=False)
    even.save(tmp_path / "even")

    def first(*options: str) -> list[str]:
        _, out, _ = run(capsys, "recommend", str(tmp_path / "even"), "--user", "nobody", "-k", "5", "--json", *options)
        return [item["item_id"] for item in json.loads(out)["items"]]

    assert first() == first() == first("--seed", "0") == [item.item_id for item in even.recommend("nobody", 5).items]
    assert first("--seed", "1") == first("--seed", "1") == [item.item_id for item in even.recommend("nobody", 5, seed=1).items] != first()


def test_a_model_answers_for_its_users_wherever_it_goes(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its dataset, and after the log was ingested again."""
    shop = tmp_path / "shop"
    shutil.copytree(dataset, shop / "dataset")
    assert run(capsys, "train", str(shop / "dataset"), "-o", str(shop / "model"), "--steps", "5", *SMALL)[0] == 0
    _, before, _ = run(capsys, "recommend", str(shop / "model"), "--user", "u1", "--json")
    assert run(capsys, "recommend", str(shop / "model"), "--all-users", "-o", str(tmp_path / "before.csv"))[0] == 0
    log = write_log(tmp_path / "log.csv", users=10)
    assert run(capsys, "ingest", str(log), "-o", str(shop / "dataset"))[0] == 0
    (shop / "model").rename(tmp_path / "model")
    for _ in range(2):
        code, out, err = run(capsys, "recommend", str(tmp_path / "model"), "--user", "u1", "--json")
        assert code == 0 and "no user of the training log" not in err and json.loads(out)["items"] == json.loads(before)["items"]
        assert run(capsys, "recommend", str(tmp_path / "model"), "--all-users", "-o", str(tmp_path / "after.csv"))[0] == 0
        assert (tmp_path / "after.csv").read_text() == (tmp_path / "before.csv").read_text()
        shutil.rmtree(shop, ignore_errors=True)


def test_a_model_without_histories_and_its_dataset_move_together(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop, moved = tmp_path / "shop", tmp_path / "moved"
    shutil.copytree(dataset, shop / "dataset")
    assert run(capsys, "train", str(shop / "dataset"), "-o", str(shop / "model"), "--no-histories", "--steps", "5", *SMALL)[0] == 0
    _, before, _ = run(capsys, "recommend", str(shop / "model"), "--user", "u1", "--json")
    shop.rename(moved)
    code, out, _ = run(capsys, "recommend", str(moved / "model"), "--user", "u1", "--json")
    assert code == 0 and json.loads(out)["degraded"] is None and json.loads(out)["items"] == json.loads(before)["items"]
    (moved / "dataset").rename(tmp_path / "elsewhere")
    code, out, err = run(capsys, "recommend", str(moved / "model"), "--user", "u1", "--json")
    assert code == 0 and json.loads(out)["degraded"] == "unknown_user" and str(shop / "dataset") in err
    code, out, err = run(capsys, "recommend", str(moved / "model"), "--user", "u2", "--json", "--quiet")
    assert code == 0 and json.loads(out)["degraded"] == "unknown_user" and err == ""


@pytest.mark.parametrize("name", ["all.csv", "all.jsonl", "all.parquet"])
def test_all_users_get_what_one_user_gets(name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import polars as pl

    file = tmp_path / name
    code, out, _ = run(capsys, "recommend", str(model), "--all-users", "-k", "4", "-o", str(file), "--json")
    assert code == 0 and json.loads(out)["users"] == 60
    read = {".csv": pl.read_csv, ".jsonl": pl.read_ndjson, ".parquet": pl.read_parquet}[file.suffix]
    table = read(file)
    assert table.height == json.loads(out)["rows"] and sorted(p.name for p in tmp_path.iterdir()) == [".qurate-written", name]
    for user in ("u0", "u17", "u59"):
        _, out, _ = run(capsys, "recommend", str(model), "--user", user, "-k", "4", "--json")
        assert table.filter(pl.col("user_id") == user)["item_id"].to_list() == [item["item_id"] for item in json.loads(out)["items"]]


def test_an_altered_model_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-3] ^= 1
    (copy / "weights.safetensors").write_bytes(weights)
    code, out, err = run(capsys, "recommend", str(copy), "--user", "u1")
    assert code == 2 and out == "" and "weights.safetensors" in one_error(err)


def test_ctrl_c_in_training_saves_a_checkpoint_that_goes_on(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model"
    process = Forked(tmp_path / "said", in_process, ["train", str(dataset), "-o", str(path), "--steps", "50000", "--json", *SMALL])
    while "training" not in process.errors and "preparing" not in process.errors:
        assert process.process.is_alive(), process.errors
        time.sleep(0.05)
    time.sleep(0.6)
    os.kill(process.pid, signal.SIGINT)
    code, err = process.wait()
    assert code == 130 and "Traceback" not in err
    result = json.loads(process.out)
    assert result["stopped"] == "interrupted" and 0 < result["steps"] < 50_000 and "--resume" in err
    steps = result["steps"] + 5
    code, out, _ = run(capsys, "train", "--resume", str(path), "-o", str(tmp_path / "on"), "--steps", str(steps), "--json")
    assert code == 0 and json.loads(out)["steps"] == steps and json.loads(out)["stopped"] == "steps"


def test_serve_answers_and_stops_with_0(model: Path, dataset: Path, tmp_path: Path) -> None:
    import httpx

    arguments = ["serve", str(model), "--port", "0", "--data", str(tmp_path / "live"), "--exclude", "purchased"]
    process = Forked(tmp_path / "said", in_process, arguments)
    while process.errors.count("\n") < 2:
        assert process.process.is_alive(), process.errors
        time.sleep(0.05)
    note, url = process.errors.splitlines()[0], process.errors.splitlines()[1].split()[-1]
    answer = httpx.post(f"{url}/v1/recommend", json={"user_id": "u1", "k": 3}, timeout=20)
    ghosts = {"user_id": "u1", "k": 1, "candidates": [*(f"ghost{n}" for n in range(50)), "i1"]}
    assert httpx.post(f"{url}/v1/recommend", json=ghosts, timeout=20).status_code == 200
    os.kill(process.pid, signal.SIGTERM)
    code, err = process.wait()
    assert note.startswith("note: not shown again: purchased; ")
    assert answer.status_code == 200 and len(answer.json()["items"]) == 3
    left = load_model(model).recommend("u1", 9, exclude=["purchased"]).items
    assert 3 <= len(left) < 9 and {item["item_id"] for item in answer.json()["items"]} <= {item.item_id for item in left}
    assert code == 0 and process.out == "" and "Traceback" not in err
    again = build_dataset(read_events(tmp_path / "live"), rewards="click=1")
    first = Dataset.read(dataset)
    assert set(again.vocabulary.items) == set(first.vocabulary.items), "items never shown are known, and what was only asked for is not"
    assert again.item_spec == first.item_spec and again.item_features.shape == first.item_features.shape


def test_what_serve_does_not_show_again_is_a_rule(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in ((["i3"], "'i3'"), (["purchsed"], "purchased"), (["purchased:soon"], "soon"), (["none,click"], "none alone")):
        code, out, err = run(capsys, "serve", str(model), "--port", "0", "--data", str(tmp_path / "live"), "--exclude", *words)
        assert (code, out) == (2, "") and err.startswith("error: ") and "--exclude" in err and expected.strip("'") in err, err
    assert not (tmp_path / "live").exists()


def test_simulate_writes_a_log_that_ingest_reads_as_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, dataset = tmp_path / "shop/events.csv", tmp_path / "dataset"
    code, out, _ = run(capsys, "simulate", "shop", "-o", str(log), "--users", "40", "--steps", "15", "--seed", "3", "--json")
    written = json.loads(out)
    assert code == 0 and written["customers"] == 40
    first = log.read_bytes()
    code, out, _ = run(capsys, "ingest", str(log), "-o", str(dataset), "--json")
    made = json.loads(out)
    assert code == 0 and made["kind"] == "logged" and made["decisions"] == written["shown"] and made["events"] == written["rows"]
    code, out, _ = run(capsys, "inspect", str(dataset), "--json")
    assert code == 0 and set(json.loads(out)) == {"events", "users", "items", "types", "time", "kind", "needs_rl", "sentence", "evidence"}
    code, _, _ = run(capsys, "--seed", "3", "simulate", "shop", "-o", str(log), "--users", "40", "--steps", "15", "--quiet")
    assert code == 0 and log.read_bytes() == first
    code, _, _ = run(capsys, "--seed", "4", "simulate", "shop", "-o", str(log), "--users", "40", "--steps", "15", "--quiet")
    assert code == 0 and log.read_bytes() != first


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["shpo", "-o", "x.csv"], "did you mean shop?"),
        (["shop", "-o", "x.xls"], ".csv"),
        (["shop", "-o", "x.csv", "--users", "0"], "--users"),
    ],
)
def test_what_simulate_refuses(args: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "simulate", *args)
    assert code == 2 and out == "" and word in one_error(err)


def test_demo_prints_both_tables_and_where_the_report_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[object] = []

    def fake(out: Path, seed: int, progress: Callable[[str, float, float], None], force: bool) -> dict[str, object]:
        asked.extend([out, seed])
        progress("a log was written", 1, 2)
        return {
            **COMPARISON,
            "control": {**COMPARISON, "env": "shop, strength 0"},
            "report": "d/report.html",
            "model": "d/model",
            "seconds": 88.5,
        }

    monkeypatch.setattr(import_module("qurate.experiments.demo"), "demo", fake)
    code, out, err = run(capsys, "demo", "-o", "d", "--seed", "7")
    assert code == 0 and asked == [Path("d"), 7]
    assert "shop: 2 seeds" in out and "shop, strength 0: 2 seeds" in out and "report: d/report.html\nmodel: d/model\nseconds: 88.5" in out
    assert "demo: 50 %, 0 s, a log was written" in err
    code, out, err = run(capsys, "demo", "--json", "--quiet")
    assert code == 0 and err == "" and json.loads(out)["report"] == "d/report.html" and asked[2:] == [Path("qurate-demo"), 0]


def test_evaluate_names_every_score_and_every_baseline(model: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "evaluate", str(model), str(dataset), "--json")
    result = json.loads(out)
    assert code == 0 and {"model", "on", "n", "metrics", "by_type", "by_score", "baselines"} <= set(result)
    assert set(result["by_score"]) == {"q", "q_in_support", "behaviour", "behaviour_times_q"}
    assert {"popularity", "item_knn"} <= set(result["baselines"])
    cell = result["metrics"]["HR@20"]
    assert cell["mean"] == 1.0, "nine items, so the one that came is always among the first twenty"
    assert result["metrics"] == {name: result["by_score"][result["main"]][name] for name in result["metrics"]}
    assert result["main"] == "behaviour_times_q", "a log of choices"
    code, out, _ = run(capsys, "evaluate", str(model), str(dataset), "--quiet")
    assert code == 0 and "agreement with what was chosen, not value" in out


def test_compare_lets_policies_meet_the_same_customers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qurate.experiments.compare.compare", partial(compare, customers=300))
    code, out, err = run(capsys, "compare", "random", "static", "--env", "toy_chain", "--seeds", "2", "--seed", "5", "--json")
    result = json.loads(out)
    assert code == 0 and {"env", "seeds", "customers", "policies", "best_baseline", "verdict"} <= set(result)
    assert result["seeds"] == [5, 6] and "comparing" in err
    rows = {policy["name"]: policy for policy in result["policies"]}
    assert {"name", "mean", "ci", "length", "steps_trained", "lift", "lift_ci"} <= set(rows["random"])
    assert rows["static"]["mean"] > rows["random"]["mean"] and rows["static"]["lift"] == 0


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["compare", "randon", "--env", "shop"], "did you mean random?"),
        (["compare", "random", "--env", "shpo"], "did you mean shop?"),
        (["evaluate", "nowhere", "--env", "shop"], "nowhere"),
    ],
)
def test_what_evaluate_and_compare_refuse(args: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *args)
    assert code == 2 and out == "" and word in one_error(err)


def test_simulate_by_a_model_and_with_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, log = tmp_path / "model", tmp_path / "log/events.csv"
    assert run(capsys, "train", "--env", "shop", "-o", str(model), "--steps", "64", *SMALL)[0] == 0
    for policy in ("random", "popularity", str(model)):
        options = ["--users", "20", "--steps", "6", "--policy", policy, "--trace", "2", "--json"]
        code, out, _ = run(capsys, "simulate", "shop", "-o", str(log), *options)
        written = json.loads(out)
        assert code == 0 and written["trace"] == str(log.with_name("trace.jsonl"))
        lines = [json.loads(line) for line in log.with_name("trace.jsonl").read_text().splitlines()]
        assert len({line["customer"] for line in lines}) == 2 and 2 <= len(lines) <= 12
        for line in lines:
            assert set(line) == {"customer", "time", "visit", "items", "about", "probability", "answers"} and len(line["items"]) == 1
            assert len(line["about"]) == 1 and line["about"][0].startswith("category=c") and " price=" in line["about"][0]
            assert all(set(answer) == {"type", "item_id", "timestamp", "value"} for answer in line["answers"])
        assert any(line["answers"] for line in lines) or policy != "popularity"
    code, out, _ = run(capsys, "ingest", str(log.parent), "-o", str(tmp_path / "d"), "--json")
    assert code == 0 and json.loads(out)["decisions"] == written["shown"], "the trace is not taken for a log"
    code, out, _ = run(
        capsys, "simulate", "shop", "-o", str(log), "--users", "20", "--steps", "6", "--slate", "3", "--policy", "popularity"
    )
    assert code == 0


def test_workers_run_nothing_that_lies_in_the_current_folder(tmp_path: Path) -> None:
    folder, script = tmp_path / "folder", tmp_path / "script.py"
    folder.mkdir()
    (folder / "re.py").write_text("raise SystemExit('a module of the folder was run')")
    run = "    print(jobs.run_jobs([jobs.Job(operator.index, (7,), 1)], lambda *a: None))\n"
    script.write_text("import operator\nfrom qurate.experiments import jobs\nif __name__ == '__main__':\n" + run)
    result = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=60)
    assert result.stdout.endswith("[7]\n"), result.stderr


def test_exclude_holds_in_every_command_that_shows_items(
    dataset: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "evaluate", str(model), str(dataset), "--exclude", "click:2d", "--json")
    assert code == 0, err
    assert json.loads(out)["exclude"] == "click:2d"
    for command in (["evaluate", str(model), str(dataset)], ["compare", "random", "--env", "shop", "--seeds", "1"],
                    ["simulate", "shop", "--users", "2", "-o", str(tmp_path / "e.csv")]):  # fmt: skip
        code, out, err = run(capsys, *command, "--exclude", "purchsed")
        assert code == 2 and out == "" and "purchased" in one_error(err)
    log = tmp_path / "events.parquet"
    shown = {}
    for rule in ("none", "seen"):
        command = ["simulate", "shop", "--users", "20", "--steps", "10", "--policy", "popularity", "--exclude", rule]
        assert run(capsys, *command, "-o", str(log))[0] == 0
        table = pl.read_parquet(log.with_name("decisions.parquet")).with_columns(pl.col("shown").list.first())
        shown[rule] = table.height - table.unique(["user_id", "shown"]).height
    assert shown["seen"] == 0 < shown["none"]
    code, out, _ = run(capsys, "evaluate", str(model), str(dataset))
    assert "not shown again: none" in out and "the model, first choices" in out and "the model, purchase" in out
