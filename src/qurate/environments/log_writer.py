"""`simulate`: customers of an engine under a policy, written as the ordinary event log that a shop would have.

Beside the events stand the decisions with their probabilities, the items and the users. Nothing latent is written.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine
from qurate.errors import Code, MachineError, UserError
from qurate.events.schema import CANDIDATE
from qurate.files import replacing_file
from qurate.outputs import check_files, written
from qurate.types import Feedback, IntArray, Policy

LANES = 1024
"""Customers simulated at once."""

FORMATS = (".csv", ".jsonl", ".ndjson", ".parquet")

Columns = dict[str, NDArray[Any]]


def simulate(
    engine: BatchedEngine,
    policy: Policy,
    users: int,
    steps: int,
    seed: int,
    out: str | Path,
    progress: Callable[[int, int], None] | None = None,
    trace: int = 0,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """Simulate one episode of at most `steps` decisions for each of `users` customers, and write the log.

    Files: `out` (events), and beside it decisions, items and users in the same format: `decisions.csv` beside
    `events.csv`, `NAME.decisions.csv` beside `NAME.csv`. A decision that shows one item has a list of one; its "shown"
    row is in the decisions, not in the events. Propensities are those the policy reports. A postponed purchase carries the
    decision_id that led to it. What the world shows of each candidate (its age) stands in columns `candidate.NAME` of the
    decisions. Customers cut off by `steps` simply fall silent in the log.

    Args:
        engine: is reset; its step limit also holds.
        policy: its `name` is written with each decision.
        users: customers, >= 1.
        steps: decisions per customer at most, >= 1.
        seed: of the customers and of the policy's choices.
        out: file ending in .csv, .jsonl, .ndjson or .parquet; its directory is made.
        progress: called with (customers done, users).
        trace: the first so many customers' decisions and answers also go, for reading, to `trace.jsonl` beside the log: one
            line per decision, by customer and time.
        force: replace files that qurate did not write.

    Returns:
        {"events", "decisions", "items", "users"} and perhaps "trace": paths as text; {"rows", "shown", "customers"} counts.

    Raises:
        UserError: bad counts or file ending, or a file there that qurate did not write. MachineError: a file cannot be written.
    """
    path = Path(out)
    if path.suffix not in FORMATS:
        raise UserError(f"a file ending in {', '.join(FORMATS)}", str(out), where="-o", code=Code.BAD_OUTPUT)
    if users < 1 or steps < 1:
        raise UserError("users and steps of at least 1", f"users={users}, steps={steps}", where="simulate", code=Code.BAD_ARGUMENT)
    places = {name: path if name == "events" else _beside(path, name) for name in ("events", "decisions", "items", "users")}
    places |= {"trace": _beside(path, "trace").with_suffix(".jsonl")} if trace else {}
    check_files(places.values(), force)
    rng = np.random.default_rng([seed, 20])
    parts = []
    for first in range(0, users, LANES):
        lanes = min(LANES, users - first)
        parts.append(_serve(engine, policy, lanes, steps, seed, first, rng))
        if progress is not None:
            progress(first + lanes, users)
    events, decisions, people = (pl.concat(tables) for tables in zip(*parts))
    ids = (f"{seed}-{i}" for i in range(events.height))
    events = events.sort("timestamp", "user_id", maintain_order=True).with_columns(pl.Series("event_id", list(ids), pl.String))
    decisions = decisions.sort("timestamp", "user_id", maintain_order=True)
    tables = {"events": events, "decisions": decisions, "items": engine.world.items_table(), "users": people}
    files = _write_all(tables, places, trace)
    return files | {"rows": events.height, "shown": decisions.height, "customers": people.height}


def _write_all(tables: dict[str, pl.DataFrame], places: dict[str, Path], trace: int) -> dict[str, str]:
    """Write the tables, and the trace of the first `trace` customers; their paths by name."""
    path = places["events"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # events last: a log whose disk was full on the way is no log, rather than one without its decisions
        made = {name: _write(tables[name], places[name]) for name in reversed(tables)}
        files = {name: made[name] for name in tables}
        if trace:
            rows = _trace(tables["events"], tables["decisions"], tables["users"]["user_id"].head(trace), _described(tables["items"]))
            files["trace"] = _write(rows, places["trace"])
        written(files.values())
    except (OSError, pl.exceptions.ComputeError) as error:  # the second: a disk that is full while Parquet is written
        raise MachineError(
            "a place to write the log", str(error), where=str(path), hint="choose another directory", code=Code.UNWRITABLE
        ) from None
    return files


def _serve(
    engine: BatchedEngine, policy: Policy, lanes: int, steps: int, seed: int, first: int, rng: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Events, decisions and users of customers first ... first + lanes - 1."""
    observation = engine.reset(seed, lanes, first)
    user_ids = np.array([f"u{seed}_{first + i:06d}" for i in range(lanes)])
    people = _users(engine, observation.state.user, user_ids)
    here = np.ones(lanes, np.bool_)
    visit = np.zeros(lanes, np.int64)
    events: list[Columns] = []
    decisions: list[Columns] = []
    for step in range(min(steps, engine.max_steps)):
        clock = engine.clock.copy()
        actions, propensity = policy.act(observation, rng)
        flat = actions.reshape(lanes, -1)
        shown = np.take_along_axis(observation.actions.candidates, flat, axis=1)
        propensity = propensity.reshape(lanes, -1)
        if engine.n_candidates is not None and engine.world.with_replacement:
            propensity = of_items(propensity, shown, observation.actions.candidates)
        feedback = engine.step(actions)
        who = np.flatnonzero(here)
        decision = {"lane": who, "step": np.full(who.size, step), "visit": visit[who], "time": clock[who], "shown": shown[who]}
        decisions.append(decision | {"propensity": propensity[who]})
        if engine.n_candidates is not None:
            decisions[-1]["candidates"] = observation.actions.candidates[who]
        if observation.actions.values is not None:
            closed = observation.actions.candidates[who] == 0
            for g, name in enumerate(observation.actions.columns):
                decisions[-1][CANDIDATE + name] = np.where(closed, np.float32("nan"), observation.actions.values[who, :, g])
        events.append(_events(engine, feedback, here, visit, step))
        visit += feedback.pause > 0
        here &= ~(feedback.terminated | feedback.truncated)
        observation = feedback.obs
        if not here.any():
            break
    return _event_table(engine, _joined(events), user_ids), _decision_table(engine, policy.name, _joined(decisions), user_ids), people


def of_items(propensity: NDArray[np.float64], shown: IntArray, candidates: IntArray) -> NDArray[np.float64]:
    """Probabilities of items, where several candidates may be of the same item and a policy gives those of its positions.

    Exact of policies that are uniform over positions or choose one for sure, as those of `simulate` are.

    Args:
        propensity: [B, k] of each position of a slate, given those above it. shown: [B, k] items. candidates: [B, K] items.
    """
    alike = (candidates[:, None, :] == shown[:, :, None]).sum(2)
    above = np.tril(shown[:, :, None] == shown[:, None, :], -1).sum(2)
    probability: NDArray[np.float64] = np.minimum(propensity * (alike - above), 1.0)
    return probability


def _events(engine: BatchedEngine, feedback: Feedback, here: NDArray[np.bool_], visit: IntArray, step: int) -> Columns:
    """The step's rows of customers who are still measured, without the "shown" rows."""
    rows, shown = feedback.rows, engine.type_names.index("shown") + 1
    origin = [
        np.full(feedback.reward.size if group.lanes is None else group.lanes.size, step) if group.decision is None else group.decision
        for group in engine.groups
    ]
    keep = here[rows.lane] & (rows.type != shown)
    decision = np.concatenate(origin)[keep] if origin else np.zeros(0, np.int64)
    lane = rows.lane[keep]
    columns: Columns = {"lane": lane, "step": decision, "visit": visit[lane], "item": rows.item[keep], "type": rows.type[keep]}
    return columns | {"time": rows.time[keep], "value": rows.value[keep]}


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _common(columns: Columns, user_ids: NDArray[np.str_]) -> dict[str, Any]:
    """user_id, decision_id, session_id and timestamp of rows that have lane, step, visit and time."""
    users = pl.Series(user_ids[columns["lane"]])
    frame = pl.DataFrame({"user_id": users, "step": columns["step"], "visit": columns["visit"]})
    named = frame.select(
        "user_id",
        decision_id=pl.format("{}-{}", "user_id", "step"),
        session_id=pl.format("{}-v{}", "user_id", "visit"),
    )
    return named.to_dict() | {"timestamp": pl.Series(columns["time"]).cast(pl.Datetime("us", "UTC"))}


def _event_table(engine: BatchedEngine, columns: Columns, user_ids: NDArray[np.str_]) -> pl.DataFrame:
    common = _common(columns, user_ids)
    value = (
        pl.Series(columns["value"].astype(np.float64))
        if engine.world.has_values
        else pl.Series([None] * len(columns["value"]), dtype=pl.Float64)
    )
    return pl.DataFrame(
        {
            "event_id": pl.Series([""] * len(columns["item"]), dtype=pl.String),
            "user_id": common["user_id"],
            "item_id": np.array(["", *engine.item_ids])[columns["item"]],
            "type": np.array(["", *engine.type_names])[columns["type"]],
            "timestamp": common["timestamp"],
            "value": value,
            "session_id": common["session_id"],
            "decision_id": common["decision_id"],
        }
    )


def _decision_table(engine: BatchedEngine, name: str, columns: Columns, user_ids: NDArray[np.str_]) -> pl.DataFrame:
    common, ids = _common(columns, user_ids), np.array(["", *engine.item_ids])
    table = pl.DataFrame(
        {
            **common,
            "shown": pl.Series(ids[columns["shown"]]).arr.to_list(),
            "propensity": pl.Series(columns["propensity"]).arr.to_list(),
            "policy": [name] * len(columns["lane"]),
        }
    )
    if "candidates" in columns:
        listed = pl.Series(ids[columns["candidates"]]).arr.to_list()
        table = table.with_columns(candidates=listed.list.eval(pl.element().filter(pl.element() != "")))  # "" = no candidate
    for name in (name for name in columns if name.startswith(CANDIDATE)):
        values = pl.Series(name, columns[name]).arr.to_list()
        table = table.with_columns(values.list.eval(pl.element().filter(pl.element().is_not_nan())))
    return table


def _users(engine: BatchedEngine, features: NDArray[np.float32], user_ids: NDArray[np.str_]) -> pl.DataFrame:
    """user_id and the visible features; one-hot columns named "column=value" become one text column again."""
    table: dict[str, Any] = {"user_id": user_ids}
    names = engine.user_feature_names
    for column in dict.fromkeys(name.split("=")[0] for name in names):
        at = [i for i, name in enumerate(names) if name.split("=")[0] == column]
        if "=" in names[at[0]]:
            table[column] = np.array([names[i].split("=")[1] for i in at])[features[:, at].argmax(axis=1)]
        else:
            table[column] = features[:, at[0]]
    return pl.DataFrame(table)


def _described(items: pl.DataFrame) -> dict[str, str]:
    """What is visible of each item, by its id: "topic=sport publisher=p03 available_from=2026-01-02 10:14"."""
    shown = items.drop("available_until", strict=False).with_columns(pl.col(pl.Datetime).dt.strftime("%Y-%m-%d %H:%M"))
    words = [pl.format(name + "={}", name) for name in shown.columns if name != "item_id"]
    about = shown.select("item_id", pl.concat_str(words, separator=" ") if words else pl.lit(""))
    return dict(about.iter_rows())


def _trace(events: pl.DataFrame, decisions: pl.DataFrame, customers: pl.Series, about: dict[str, str]) -> pl.DataFrame:
    """One row per decision of `customers`, with what is visible of the items and the events that answered, in order of customer and
    time."""
    answered = events.group_by("decision_id").agg(answers=pl.struct("type", "item_id", "timestamp", "value").sort_by("timestamp"))
    stamps = pl.element().struct.with_fields(pl.field("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
    return (
        decisions.filter(pl.col("user_id").is_in(customers.implode()))
        .join(answered, on="decision_id", how="left")
        .sort("user_id", "timestamp", maintain_order=True)
        .select(
            customer="user_id",  # under the log's own column names a folder of logs would take the trace for one
            time="timestamp",
            visit="session_id",
            items="shown",
            about=pl.col("shown").list.eval(pl.element().replace_strict(about)),
            probability="propensity",
            answers=pl.col("answers").fill_null([]).list.eval(stamps),
        )
    )


def _beside(path: Path, name: str) -> Path:
    stem = name if path.stem == "events" else f"{path.stem}.{name}"
    return path.with_name(stem + path.suffix)


def _write(table: pl.DataFrame, path: Path) -> str:
    with replacing_file(path) as beside:
        _write_as(table, beside, path.suffix)
    return str(path)


def _write_as(table: pl.DataFrame, part: Path, suffix: str) -> None:
    if suffix == ".parquet":
        table.write_parquet(part)
    elif suffix == ".csv":
        texts = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.List)]
        floats = [name for name in texts if table.schema[name] == pl.List(pl.Float32)]
        if floats:  # the few digits of float32 are enough, as text
            table = table.with_columns(pl.col(floats).list.eval(pl.element().cast(pl.String).cast(pl.Float64)))
        if texts:
            table = table.with_columns(pl.Series(name, [json.dumps(row) for row in table[name].to_list()], pl.String) for name in texts)
        table.write_csv(part, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
    else:
        stamps = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.Datetime)]
        table.with_columns(pl.col(stamps).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).write_ndjson(part)
