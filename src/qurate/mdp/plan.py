"""The plan of a log: what every column is, which events come of it, what they are worth, and the command that says so."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from qurate.events.features import described_features, feature_matrix
from qurate.events.matching import match_ids, match_notes, several_in_one, written_alike
from qurate.events.places import short_names
from qurate.events.schema import EventLog
from qurate.events.sorted_rows import sorted_by, sorted_ties, sorting_said, ties_said
from qurate.events.time_forms import OPTIONS
from qurate.events.titles import with_title
from qurate.mdp.rewards import DEFAULT_REWARDS, DERIVED, parse_rewards, rewards_of_log, unrewarded
from qurate.mdp.storage import Dataset

USER_SHARE, ONCE_SHARE, MINUTE_US = 0.05, 0.9, 60_000_000
FEATURE_ROWS = 10_000
FEW, FEW_USERS = 200, 40
"""Of fewer events, users or items such shares say nothing: with 20 users each has 5 %."""
MOST = 0.5
"""Of few users one has no such share; a column of sites or of countries may stand where the user should."""


def plan_of(
    log: EventLog,
    rewards: str | Mapping[str, Any] | None = None,
    items: pl.DataFrame | None = None,
    users: pl.DataFrame | None = None,
    sampled: int | None = None,
    churn: bool = False,
    title: str | None = None,
) -> dict[str, Any]:
    """{"layout", "kind", "time_unit", "time_form", "rows", "sampled", "files", "tables", "types", "ids", "features", "notes"} of a log.

    Args:
        log: read whole, or so many rows of each file.
        rewards: as for `build_dataset`.
        items: the table of items, default the log's own.
        users: the table of users, default the log's own.
        sampled: how many rows of each file were read; None: all.
        churn: whether `churn_after` is given.
        title: the column of the items that is their title; None: by its name.
    """
    if rewards is None and log.rewards is not None:
        rewards = rewards_of_log(log.rewards, log.events.select(pl.col("type").unique()).collect()["type"].to_list(), log.kind, churn)
        said = ", ".join(f"{name} {one.weight:g}" for name, one in (rewards or {}).items())
        kept = [f"rewards as the service's model weighs them: {said}; --rewards says otherwise"] if rewards else []
    else:
        kept = []
    types, notes = _types(log, rewards)
    tables = {"items": log.items if items is None else items.lazy(), "users": log.users if users is None else users.lazy()}
    ids = [_common(log, name, table) for name, table in tables.items() if table is not None]
    features = {one["table"]: _features(tables[one["table"]], one["matched"] < one["ids"]) for one in ids}
    if "items" in features:
        features["items"] = with_title(features["items"], title)
    ids += _answered(log)
    given = {"items": items, "users": users}
    kept += [
        f"{file}, which stands beside the log, is read as the table of {name}; --{name} FILE says another"
        for name, file in log.beside.items()
        if given[name] is None
    ]
    notes += [note for one in ids for note in one.pop("notes")]
    by, ties = sorted_by(log), sorted_ties(log)
    notes += ([] if by is None else [sorting_said(by)]) + ([] if ties is None else [ties_said(ties)])
    return {
        "layout": log.layout,
        "kind": log.kind,
        "time_unit": log.time_unit,
        "time_form": log.time_form or None,
        "rows": log.rows,
        "bad_rows": log.bad_rows,
        "sampled": sampled,
        "files": [{name: value for name, value in file.items() if name not in ("map", "type")} for file in log.files],
        "tables": [
            {name: value for name, value in one.items() if name not in ("map", "type", "layout", "type_from")} for one in log.tables
        ],
        "types": types,
        "ids": ids,
        "features": features,
        "notes": [*log.typed_notes, *kept, *notes],
    }


def _features(table: pl.LazyFrame | None, some_missing: bool) -> list[dict[str, Any]]:
    """What each column of a table becomes, by its first rows; where ids of the log are not in it, with missing values."""
    if table is None:
        return []
    first = table.head(FEATURE_ROWS).collect()
    if some_missing:
        first = pl.concat([first, first.clear(1)])
    return described_features(feature_matrix(first)[1])


def _types(log: EventLog, rewards: str | Mapping[str, Any] | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows, weight and total reward of each type, and what is odd about them."""
    events = log.events.select("type", "value").collect(engine="streaming")
    given = None if rewards is None else parse_rewards(rewards)
    known = DEFAULT_REWARDS if given is None else given
    out = []
    counts = events.group_by("type").agg(pl.len().alias("rows"), "value").sort("rows", "type", descending=[True, False])
    for name, rows, values in counts.iter_rows():
        reward = known.get(name)
        amounts = reward.amount(pl.Series(values, dtype=pl.Float64).fill_null(0.0).to_numpy()) if reward else None
        total = 0.0 if reward is None or amounts is None else float(reward.weight * amounts.sum())
        weight = 0.0 if reward is None else reward.weight
        out.append({"type": name, "rows": rows, "weight": weight, "per_value": bool(reward and reward.per_value), "reward": total})
    return out, reward_notes(out, given or {})


def reward_notes(types: list[dict[str, Any]], given: Mapping[str, Any]) -> list[str]:
    """What is worth nothing, and what has a worth and does not occur."""
    notes = [
        unrewarded(name, [one["type"] for one in types])
        for name in given
        if name not in DERIVED and all(one["type"] != name for one in types)
    ]
    nothing = [one for one in types if not one["weight"] and one["type"] not in ("shown", "impression", "none")]
    if nothing:
        said = ", ".join(f"{one['type']} ({one['rows']:,})" for one in nothing[:10])
        option = ",".join(f"{_quoted(one['type'])}={-5 if one['type'] == 'return' else 1}" for one in nothing[:3])
        notes.append(f"worth nothing: {said}; to weigh them, say --rewards with for example {option}")
    if types and not any(one["reward"] for one in types):
        valued = next((one["type"] for one in types if one["per_value"]), None)
        why = f": {valued} counts by its value, and no row has one, or they cancel out" if valued else ""
        option = f"{_quoted(valued or types[0]['type'])}=1"
        notes.append(f"the rewards of this log add up to 0{why}; say for example --rewards {option}")
    return notes


def _quoted(name: str) -> str:
    return name if name.replace("_", "").isalnum() else shlex.quote(name)


def _common(log: EventLog, name: str, table: pl.LazyFrame) -> dict[str, Any]:
    """How many ids of the log stand in a table."""
    key = "item_id" if name == "items" else "user_id"
    parts = [log.events.select(key)]
    if log.decisions is not None:
        parts.append(log.decisions.select(pl.col("shown").explode(empty_as_null=False).alias(key) if name == "items" else key))
    ids = pl.concat(parts).drop_nulls().unique().collect(engine="streaming")[key].sort()
    have = table.select(pl.col(key).cast(pl.String)).drop_nulls().unique().collect(engine="streaming")[key].sort()
    match = match_ids(ids, have)
    return {
        "table": name,
        "ids": match.ids,
        "rows": match.rows,
        "matched": match.matched,
        "would_match": match.ways,
        "notes": match_notes(match, name, f"the table of {name}"),
    }


def _answered(log: EventLog) -> list[dict[str, Any]]:
    """How many decision ids of the events stand in a decisions table; nothing where a part of either was read."""
    if log.decisions is None or not log.whole or all(one["table"] != "decisions" for one in log.tables):
        return []
    answers, decided = (
        table.select("decision_id").drop_nulls().unique().collect(engine="streaming")["decision_id"]
        for table in (log.events, log.decisions)
    )
    match = match_ids(answers.sort(), decided.sort())
    common = {"ids": match.ids, "rows": match.rows, "matched": match.matched, "would_match": match.ways}
    return [{"table": "decisions", **common, "notes": match_notes(match, "decisions", "the table of decisions")}]


def command(log: EventLog, paths: list[Path], given: Mapping[str, Any], output: Path | None) -> str:
    """The command that reads the log in the same way, with every assumption said.

    Args:
        log: read.
        paths: as given.
        given: option -> its value as typed, a list of them, or True.
        output: of the dataset.
    """
    said = dict(given)
    several = len(log.files) > 1
    maps: list[str] = []
    types: list[str] = []
    same = all(file["map"] == log.files[0]["map"] for file in log.files)
    short = short_names([file["file"] for file in log.files])
    for file, called in list(zip(log.files, short))[: 1 if same else None]:
        prefix = f"{called}:" if several and not same else ""
        maps += [f"{prefix}{name}={column}" for name, column in file["map"].items() if name != column]
    for file, called in zip(log.files, short):
        if file["type"]:
            types.append(f"{called}={file['type']}" if several else file["type"])
    names = {name for file, called in zip(log.files, short) for name in (called, file["file"], Path(file["file"]).name)}
    side = [one for one in said.get("--map") or () if ":" in one.partition("=")[0] and one.partition(":")[0] not in names]
    said["--map"] = [*maps, *side]  # what is said about other tables stays as it was typed
    said["--type"] = types or said.get("--type")
    if log.files and log.layout != "qurate" and "--layout" not in said:
        said["--layout"] = log.layout
    separators = {file.get("separator") for file in log.files} - {None, ""}
    if "--sep" not in said and len(separators) == 1:
        sign = str(separators.pop())
        said["--sep"] = {"\t": "tab", " ": "blank"}.get(sign, sign)
    if (
        log.layout == "qurate"
        and log.time_unit == "text"
        and log.time_form in OPTIONS
        and said.keys().isdisjoint(("--time-form", "--order"))
    ):
        said["--time-form"] = log.time_form
    if log.layout == "qurate" and log.files and not any(file.get("header", True) for file in log.files) and "--columns" not in said:
        said.setdefault("--header", "no")
    words = ["qurate", "ingest", *map(str, paths), "-o", str(output or "DATASET")]
    for option, value in sorted(said.items()):
        for one in value if isinstance(value, list) else [value]:
            if one not in (None, False):
                words += [option] if one is True else [option, str(one)]
    return shlex.join(words)


def plausibility(dataset: Dataset) -> list[str]:
    """Figures that are possible and hardly true, as notes."""
    user_rows, time = np.diff(dataset.arrays.user_start), dataset.arrays.time
    n = len(time)
    if n < FEW:
        return []
    notes = []
    most = int(np.argmax(user_rows))
    if user_rows[most] > (USER_SHARE if len(user_rows) > FEW_USERS else MOST) * n:
        share, name = user_rows[most] / n, dataset.users["user_id"][most]
        notes.append(f"user {name!r} has {user_rows[most]:,} of {n:,} events ({share:.1%}); if that is nobody, leave these rows out")
    if time.max() - time.min() < MINUTE_US:
        notes.append(f"all {n:,} events lie within one minute; the times may be of the export, not of the events")
    times = np.bincount(dataset.arrays.item, minlength=dataset.vocabulary.n_items + 1)[1:]
    seen, once = int(np.count_nonzero(times)), int(np.count_nonzero(times == 1))
    if seen > FEW_USERS and once > ONCE_SHARE * seen:
        notes.append(f"{once:,} of {seen:,} items occur once ({once / seen:.0%}); the column may hold ids of orders or events")
    ids = {"items": pl.Series(dataset.vocabulary.items, dtype=pl.String), "users": dataset.users["user_id"]}
    notes += several_in_one(ids["items"], "items")
    return notes + [note for what, these in ids.items() for note in written_alike(these, what)]
