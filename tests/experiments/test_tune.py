"""`tune`: a search that looks at the validation split alone, goes on where it stopped, and gives a command that gives its figure."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from qurate.cli.app import main
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.errors import UserError
from qurate.evaluation.ranking import draw_visits, gains, rank_all, ranking_targets
from qurate.events.readers import read_events
from qurate.experiments import tune as module
from qurate.experiments.policies import present_recommender, rewards_of
from qurate.experiments.search_space import on_log, search_space
from qurate.experiments.tune import held_out_visits, tune
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import load
from qurate.types import HISTORY, TEST, TRAIN, VALID


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("tune")
    engine = make_engine("shop", n_items=40)
    simulate(engine, present_recommender(engine, 0, 50), 400, 12, 0, out / "log" / "events.csv")
    return build_dataset(read_events(out / "log"), rewards=rewards_of(engine), episode="user", out=out / "dataset")


def test_what_the_form_of_a_log_does_not_read_is_not_searched() -> None:
    space = search_space("dqn")
    assert set(space) - set(on_log(space, "dqn", "logged")) == {"support_threshold"}
    assert "gamma" in space and "gamma" not in search_space("myopic"), "what its name says"
    assert on_log(space, "dqn", "organic") == space and on_log(space, "bcq", "logged") == space


def test_a_search_goes_on_and_its_command_gives_its_figure(dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "tuned")
    typed = ["tune", str(dataset.path), "--algorithm", "item_knn", "--budget", "4s", "-o", out, "--json"]
    found = []
    for _ in range(2):
        assert main(typed) == 0
        found.append(json.loads(capsys.readouterr().out))
    first, second = found
    assert second["trials"] > first["trials"] > 0 and second["default"] == first["default"]
    assert second["best"]["value"] >= first["best"]["value"] > second["default"]
    table = pl.read_csv(Path(out) / "trials.csv")
    assert table.height == 1 + second["trials"] + second["pruned"] + second["failed"]
    assert table["value"].max() == second["best"]["value"] and set(search_space("item_knn")) <= set(table.columns)
    page = (Path(out) / "report.html").read_text()
    assert "<svg" in page and second["command"].split(" -o ")[0].replace("&", "&amp;") in page
    note = json.loads((Path(out) / "tune.json").read_text())
    assert note["result"]["best"] == second["best"] and note["dataset_sha256"] == dataset.sha256

    command = shlex.split(second["command"].replace("MODEL", str(tmp_path / "m")))
    assert command[0] == "qurate" and main(command[1:]) == 0
    model = load(tmp_path / "m")
    rows = draw_visits(dataset, ranking_targets(dataset, VALID), module.VISITS, 0)
    ranked, _ = rank_all(dataset, rows, {"m": model}, module.K, model.window)
    assert gains(ranked["m"].ranks, module.K)[module.METRIC].mean() == pytest.approx(second["best"]["value"], abs=1e-9)


def test_the_test_split_is_never_looked_at(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the test split's rewards turned round, and its decisions gone, the same trials have the same values."""
    t = dataset.transitions
    reward = np.where((t.split[t.state] == TEST)[:, None], 1 - t.reward, t.reward)
    gone = replace(dataset, transitions=replace(t, reward=reward, split=np.where(t.split == TEST, HISTORY, t.split).astype(np.uint8)))
    values, real, calls = [], module.Task.outcome, 0

    def outcome(self: module.Task, settings: dict[str, Any]) -> module.Outcome:
        nonlocal calls
        calls += 1
        if calls % 6 == 0:
            raise KeyboardInterrupt
        return real(self, settings)

    monkeypatch.setattr(module.Task, "outcome", outcome)
    for name, data in (("a", dataset), ("b", gone)):
        result = tune(data, "als", tmp_path / name, budget=600.0)
        table = pl.read_csv(tmp_path / name / "trials.csv")
        values.append([result["default"], *table["value"].drop_nulls().to_list()[1:]])
    assert len(values[0]) == 5 and values[0] == values[1]


def test_a_network_is_cut_short_where_it_is_behind(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training as fast as thought: its value is its lr, a quarter of its passes gives as much."""
    asked: list[dict[str, Any]] = []

    def outcome(self: module.Task, settings: dict[str, Any]) -> module.Outcome:
        asked.append(dict(settings))
        if len(asked) == 60:
            raise KeyboardInterrupt
        return module.Outcome(float(settings.get("lr", 0.0)), 0.0, True, 4_000)

    monkeypatch.setattr(module.Task, "outcome", outcome)
    result = tune(dataset, "dqn", tmp_path / "t", budget=600.0)
    assert asked[0] == {} and result["default"] == 0.0
    assert result["pruned"] > 0 and result["trials"] > 3
    assert asked[1]["passes"] == pytest.approx(asked[2]["passes"] / 4)
    table = pl.read_csv(tmp_path / "t" / "trials.csv")
    assert table.filter(pl.col("state") == "pruned")["value"].null_count() == result["pruned"]
    assert result["best"]["value"] == table["value"].max() == result["best"]["settings"]["lr"]


def test_what_cannot_be_trained_counts_as_failed_and_ctrl_c_keeps_what_was_done(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    def outcome(self: module.Task, settings: dict[str, Any]) -> module.Outcome:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise UserError("a run that does not diverge", "one that does", code="diverged")  # type: ignore[arg-type]
        if calls == 5:
            raise KeyboardInterrupt
        return module.Outcome(0.1 * calls, 0.0, True, 0)

    monkeypatch.setattr(module.Task, "outcome", outcome)
    typed = ["tune", str(dataset.path), "--algorithm", "ease", "--budget", "1h", "-o", str(tmp_path / "t"), "--json"]
    assert main(typed) == 130
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert (result["stopped"], result["trials"], result["failed"]) == ("interrupted", 2, 2) and "go on with the same command" in told.err
    assert result["best"]["value"] == pytest.approx(0.4) and (tmp_path / "t" / "trials.csv").is_file()


def test_a_training_that_the_time_cuts_off_is_no_result(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = module.Outcome(0.9, 0.0, False, 10)
    monkeypatch.setattr(module.Task, "outcome", lambda self, settings: cut)
    with pytest.raises(UserError, match="time for one training") as caught:
        tune(dataset, "dqn", tmp_path / "t", budget=1.0)
    assert caught.value.code.exit_code == 2 and (tmp_path / "t" / "tune.json").is_file()


@pytest.mark.parametrize(
    ("algorithm", "budget", "there", "named"),
    [
        ("random", "2s", "", "an algorithm that is tuned on a dataset, got random, at --algorithm; it has none that a search could better"),
        ("slateq", "2s", "", "it learns in a simulated world, not from a dataset: qurate train --env"),
        ("also", "2s", "", "did you mean als"),
        ("als", "soon", "", "--budget"),
        ("als", "2s", "file", "something else"),
        ("als", "2s", "search", "a search for ease"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_lost(
    algorithm: str, budget: str, there: str, named: str, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t"
    if there:
        out.mkdir()
        text = '{"tune": 1, "algorithm": "ease"}' if there == "search" else "mine"
        (out / ("tune.json" if there == "search" else "thesis.txt")).write_text(text)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    assert main(["tune", str(dataset.path), "--algorithm", algorithm, "--budget", budget, "-o", str(out)]) == 2
    told = capsys.readouterr()
    assert named in told.err and len([line for line in told.err.splitlines() if line.startswith("error:")]) == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_without_a_validation_split_the_newest_training_visits_stand_in(dataset: Dataset) -> None:
    t = dataset.transitions
    none = replace(dataset, transitions=replace(t, split=np.where(t.split == VALID, HISTORY, t.split).astype(np.uint8)))
    data, notes = held_out_visits(none)
    new = data.transitions.split
    assert "stand in for it" in notes[0] and (new[t.split != TRAIN] == none.transitions.split[t.split != TRAIN]).all()
    visit, moved = dataset.state_visit, new != none.transitions.split
    train_visits = np.unique(visit[t.split == TRAIN])
    assert len(np.unique(visit[moved])) == len(train_visits) // 10 and (new[moved] == VALID).all()
    ended = {v: t.clock[(visit == v) & (t.split == TRAIN)].max() for v in train_visits}
    assert min(ended[v] for v in np.unique(visit[moved])) >= max(ended[v] for v in train_visits if v not in set(visit[moved]))
    assert held_out_visits(dataset) == (dataset, [])


def test_without_the_library_one_line_says_what_to_install(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'qurate\[tune\]'") as caught:
        tune(dataset, "als", tmp_path / "t", budget=1.0)
    assert caught.value.code == "missing_extra" and not (tmp_path / "t").exists()
