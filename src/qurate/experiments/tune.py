"""`tune`: searches the settings of an algorithm for a dataset. It looks at the validation split, and never at the test split.

The search is optuna's (Akiba et al. 2019, arXiv:1907.10902): a tree-structured Parzen estimator, and the median rule for runs
that can be cut short. Its journal lies in the folder of the results, so that a search goes on where it stopped, and so that
two commands on one folder share it.
"""

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from qurate.algorithms.table import ALGORITHMS
from qurate.baselines.registry import FITTED
from qurate.errors import Code, MachineError, UserError
from qurate.evaluation.page import clean, escape, figure, picture, save_page, table, whole_page
from qurate.evaluation.ranking import draw_visits, gains, rank_all, ranking_targets
from qurate.experiments.search_space import Range, on_log, rounded, search_space
from qurate.files import replacing_file
from qurate.mdp.dataset import dataset_of
from qurate.mdp.storage import Dataset
from qurate.outputs import check_files, written
from qurate.training.clocked import with_clocks
from qurate.training.log_defaults import UPDATES
from qurate.training.run import refuse_interrupted
from qurate.training.train import train
from qurate.types import TRAIN, VALID, IntArray

K = 20
METRIC = f"NDCG@{K}"
VISITS = 2_000
"""Held-out visits that are ranked, drawn with seed 0 where there are more."""
SHORT = 4
"""A run is first made with 1 / SHORT of its passes; where that ends below the median of the others, it goes no further."""
SHARE = 0.1
"""Of the newest training visits, which stand in for a validation split where a dataset has none."""
JOURNAL, NOTE, TRIALS, PAGE = "study.log", "tune.json", "trials.csv", "report.html"

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Outcome:
    """One training, measured on held-out decisions."""

    value: float
    seconds: float
    whole: bool  # not cut short by the time at hand
    updates: int


@dataclass(frozen=True)
class Task:
    """What is tuned, and on what it is measured."""

    data: Dataset
    rows: IntArray  # held-out transitions
    algorithm: str
    seed: int
    deadline: float  # of time.monotonic()

    def outcome(self, settings: Mapping[str, Any]) -> Outcome:
        """Trains with these settings, within the time at hand, and ranks the held-out decisions.

        Raises:
            KeyboardInterrupt: Ctrl-C while it trained.
        """
        began = time.monotonic()
        limit = None if self.algorithm in FITTED else max(self.deadline - began, 0.1)
        model = train(self.data, algorithm=self.algorithm, seed=self.seed, budget=limit, histories=False, **settings)
        refuse_interrupted(model.metrics)
        data = with_clocks(self.data, model.settings)
        ranked, _ = rank_all(data, self.rows, {"m": model}, K, model.window)
        value = float(gains(ranked["m"].ranks, K)[METRIC].mean())
        return Outcome(value, time.monotonic() - began, model.metrics["stopped"] != "budget", int(model.metrics["steps"]))


def tune(
    data: Dataset | str | Path, algorithm: str, out: str | Path, *, budget: float, seed: int = 0, force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Searches settings for so long; goes on with an earlier search of the same algorithm and dataset in the same folder.

    The folder gets `trials.csv` (every training), `report.html` (their picture), `tune.json` (what was found) and optuna's journal.

    Args:
        algorithm: a row of `algorithms/table.py`, or a baseline.
        out: the folder.
        budget: seconds; a baseline that is being fitted when they end is finished.
        seed: of the trainings and of the search.
        force: begin anew where the folder holds another search.

    Returns:
        {"algorithm", "dataset", "metric", "trials", "pruned", "failed", "default", "best": {"value", "settings"}, "command", "seconds",
        "stopped", "directory"}; `default` is the value of the default settings, which are measured first.

    Raises:
        UserError: an algorithm without settings to search, nothing held out, too little time for one training, a folder with
            something else in it, or optuna not installed.
    """
    began = time.monotonic()
    space = search_space(algorithm)
    if not space:
        hint = f"it has none that a search could better: qurate train DATASET --algorithm {algorithm}"
        if algorithm in ALGORITHMS and ALGORITHMS[algorithm].slates:
            hint = "it learns in a simulated world, not from a dataset: qurate train --env ..., with --set for each setting to try"
        raise UserError("an algorithm that is tuned on a dataset", algorithm, where="--algorithm", hint=hint, code=Code.BAD_OPTIONS)
    optuna = _optuna()
    dataset, note = held_out_visits(dataset_of(data))
    space = on_log(space, algorithm, dataset.kind)
    rows = draw_visits(dataset, ranking_targets(dataset, VALID), VISITS, 0)
    folder, key = Path(out), {"tune": 1, "algorithm": algorithm, "dataset_sha256": dataset.sha256, "metric": METRIC, "seed": seed}
    _claim(folder, key, force)
    task = Task(dataset, rows, algorithm, seed, began + budget)
    study = _study(optuna, folder, seed)
    stopped = "budget"
    try:
        _search(optuna, study, task, space, progress or (lambda done, total, what: None))
    except KeyboardInterrupt:
        stopped = "interrupted"
    result = {
        **{"algorithm": algorithm, "dataset": str(dataset.path or "dataset"), "metric": METRIC, "targets": int(rows.size)},
        **_found(study),
        **{"seconds": round(time.monotonic() - began, 1), "stopped": stopped, "directory": str(folder)},
    }
    best = result["best"]
    words = "".join(f" --set {name}={value}" for name, value in best["settings"].items()) if best else ""
    result |= {
        "command": f"qurate train {shlex.quote(str(result['dataset']))} --algorithm {algorithm} --seed {seed}{words} -o MODEL",
        "notes": note,
    }
    _write(folder, key, result, study, space)
    if best is None and stopped != "interrupted":
        hint = f"raise --budget and run the same command again; {folder} keeps what was done"
        raise UserError("time for one training", f"{budget:g} s", where="--budget", hint=hint, code=Code.BAD_DURATION)
    return result


def held_out_visits(dataset: Dataset) -> tuple[Dataset, list[str]]:
    """The dataset with a validation split, and what there is to say about it: its own, else the newest tenth of the training visits.

    Raises:
        UserError: neither has a decision that earned something.
    """
    notes = []
    t = dataset.transitions
    if not ranking_targets(dataset, VALID).size:
        train_states = np.flatnonzero(t.split == TRAIN)
        visit, number = np.unique(dataset.state_visit[train_states], return_inverse=True)
        ended = np.full(len(visit), np.iinfo(np.int64).min)
        np.maximum.at(ended, number, t.clock[train_states])
        newest = np.argsort(ended, kind="stable")[len(visit) - int(SHARE * len(visit)) :]
        split = t.split.copy()
        split[train_states[np.isin(number, newest)]] = VALID
        dataset = replace(dataset, transitions=replace(t, split=split))
        notes.append(
            f"The dataset has no validation split: the newest {len(newest):,} of its {len(visit):,} training visits stand in for it."
        )
    if not ranking_targets(dataset, VALID).size:
        got, hint = "none", "the log is too short to choose settings from"
        raise UserError("held-out decisions that earned something", got, where="the dataset", hint=hint, code=Code.NO_TARGETS)
    return dataset, notes


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        hint = "pip install 'qurate[tune]'"
        raise UserError("the library optuna", "none", where="qurate tune", hint=hint, code=Code.MISSING_EXTRA) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _claim(folder: Path, key: Mapping[str, Any], force: bool) -> None:
    """Makes the folder, or checks that it holds a search for the same thing.

    Raises:
        UserError: it is a file, or holds something else, and no `force`.
    """
    note = folder / NOTE
    try:
        found = json.loads(note.read_bytes())
        same = {name: found.get(name) for name in key} == dict(key)
    except (OSError, ValueError, AttributeError):
        found, same = None, False
    if not same and folder.exists() and not force and (not folder.is_dir() or any(folder.iterdir())):
        got = "something else" if found is None else f"a search for {found.get('algorithm')}, or on another dataset, or with another seed"
        hint = "choose another -o, or add --force to begin anew"
        raise UserError("a new folder, or one with this search", got, where=str(folder), hint=hint, code=Code.WOULD_OVERWRITE)
    check_files([folder / name for name in (NOTE, TRIALS, PAGE)], force)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not same:
            (folder / JOURNAL).unlink(missing_ok=True)
            _note(note, dict(key))
    except OSError as error:
        got = error.strerror or str(error)
        raise MachineError(
            "a folder that can be written", got, where=str(folder), hint="choose another -o", code=Code.CANNOT_WRITE
        ) from None


def _note(path: Path, content: Mapping[str, Any]) -> None:
    with replacing_file(path) as beside:
        beside.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    written([path])


def _study(optuna: Any, folder: Path, seed: int) -> Any:
    """The search of a folder, new or gone on with; its draws differ from those that it has made."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL)))
    study = optuna.create_study(study_name="tune", storage=storage, direction="maximize", load_if_exists=True)
    study.sampler = optuna.samplers.TPESampler(seed=(seed + 7_919 * len(study.trials)) % 2**32, n_startup_trials=8)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=3)
    return study


def _search(optuna: Any, study: Any, task: Task, space: Mapping[str, Range], progress: Progress) -> None:
    """Measures the default settings, then trials until the time is up; settings with which nothing can be trained count as failed."""
    began = time.monotonic()

    def tell(what: str) -> None:
        progress(time.monotonic() - began, task.deadline - began, what)

    tell("the default settings")
    if "default" not in study.user_attrs:
        first = task.outcome({})
        if not first.whole:
            return
        study.set_user_attr("updates", first.updates)
        study.set_user_attr("default", first.value)
    short = study.user_attrs["updates"] >= SHORT * UPDATES[0] and "passes" in space

    def objective(trial: Any) -> float:
        settings = {name: _suggested(trial, name, of) for name, of in space.items()}
        trial.set_user_attr("settings", settings)
        if short:
            quarter = task.outcome(settings | {"passes": max(settings["passes"] / SHORT, 0.05)})
            trial.report(quarter.value, 1)
            if not quarter.whole or trial.should_prune():
                raise optuna.TrialPruned
        outcome = task.outcome(settings)
        if not outcome.whole:
            raise optuna.TrialPruned  # the time is up, and what was measured is not what these settings give
        best = max((t.value for t in study.trials if t.state.name == "COMPLETE"), default=study.user_attrs["default"])
        if outcome.value > max(best, study.user_attrs["default"]):
            tell(f"trial {trial.number}: {METRIC} {outcome.value:.4f}")
        return outcome.value

    with _quiet():
        study.optimize(objective, timeout=max(task.deadline - time.monotonic(), 0.01), catch=(UserError, MachineError))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without notes of every single training."""
    import logging

    logger = logging.getLogger("qurate")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _suggested(trial: Any, name: str, of: Range) -> Any:
    if of.whole:
        return trial.suggest_int(name, int(of.low), int(of.high), log=of.scale == "log")
    return rounded(trial.suggest_float(name, of.low, of.high, log=of.scale == "log"), of)


def _found(study: Any) -> dict[str, Any]:
    """The best of the default settings and of all whole trials."""
    states = [trial.state.name for trial in study.trials]
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    default = study.user_attrs.get("default")
    best = None if default is None else {"value": default, "settings": {}}
    for trial in done:
        if best is None or trial.value > best["value"]:
            best = {"value": trial.value, "settings": trial.user_attrs["settings"]}
    counts = {"trials": len(done), "pruned": states.count("PRUNED"), "failed": states.count("FAIL")}
    return {**counts, "default": default, "best": best}


def _write(folder: Path, key: Mapping[str, Any], result: Mapping[str, Any], study: Any, space: Mapping[str, Range]) -> None:
    """The table of trials, the page and the note; a search that goes on replaces its own."""
    rows: list[dict[str, Any]] = [{"trial": "default", "state": "complete", "value": study.user_attrs.get("default")}]
    for trial in study.trials:
        seconds = None if trial.duration is None else round(trial.duration.total_seconds(), 1)
        whole = trial.value if trial.state.name == "COMPLETE" else None  # of a pruned one it is the short run's
        figures = {"value": whole, "short_run": trial.intermediate_values.get(1), "seconds": seconds}
        rows.append({"trial": str(trial.number), "state": trial.state.name.lower(), **figures, **trial.user_attrs.get("settings", {})})
    schema = {"trial": pl.String, "state": pl.String, **dict.fromkeys(("value", "short_run", "seconds", *space), pl.Float64)}
    trials = pl.DataFrame(rows, schema=schema)
    with replacing_file(folder / TRIALS) as beside:
        trials.write_csv(beside)
    written([folder / TRIALS])
    save_page(_page(result, trials, space), folder / PAGE, force=True)
    _note(folder / NOTE, {**key, "result": result})


def _page(result: Mapping[str, Any], trials: pl.DataFrame, space: Mapping[str, Range]) -> str:
    from qurate.evaluation import charts  # altair takes a second to import

    best, title = result["best"], f"tune {result['algorithm']} on {result['dataset']}"
    done = trials.filter(pl.col("value").is_not_null())
    values = done["value"].to_list()
    parts = [f"<p>{escape(result['metric'])} of {result['targets']:,} held-out decisions; the test split was not looked at.</p>"]
    if best is not None:
        parts.append(f'<p class="lead">Best: {figure(best["value"], 4)}; default settings: {figure(result["default"], 4)}.</p>')
        parts.append(f"<pre>{escape(result['command'])}</pre>")
        number = list(range(len(values)))
        drawn = [charts.Line("each trial", number, values), charts.Line("best so far", number, np.maximum.accumulate(values).tolist())]
        svg = charts.lines(drawn, "trial (0: the default settings)", result["metric"])
        parts.append(picture(svg, "One point a finished training; those that were cut short are in the table only."))
    shown = trials.sort("value", descending=True, nulls_last=True).head(50)
    head = ["trial", "state", result["metric"], "seconds", *space]
    cells = [
        [
            clean(row["trial"]),
            clean(row["state"]),
            figure(row["value"], 4),
            figure(row["seconds"], 1),
            *(_cell(row[name]) for name in space),
        ]
        for row in shown.iter_rows(named=True)
    ]
    return whole_page(title, "".join([*parts, "<h2>Trials</h2>", table(head, cells)]), result["notes"])


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
