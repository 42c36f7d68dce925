"""The dataset: a log turned into states, actions, rewards and ends, once, for every learner and every baseline."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from qurate.errors import Code, UserError, nearest
from qurate.events.features import feature_matrix
from qurate.events.frames import Frame, is_frame, lazy_frame
from qurate.events.places import Paths
from qurate.events.readers import read_events
from qurate.events.schema import EventLog
from qurate.events.side_tables import Owner, read_features, side_frame
from qurate.events.sorted_rows import sorted_by, sorted_ties
from qurate.events.vocabulary import Vocabulary
from qurate.mdp.availability import Catalogue, declared_times, order_catalogue, without_ended
from qurate.mdp.credit import CREDIT_WINDOW_US, credit
from qurate.mdp.decisions import DecisionTable, extract_decisions, repeat_states
from qurate.mdp.encode import NO_SPLIT, SPLIT_NAMES, UNKNOWN_SPLIT, Encoded, encode
from qurate.mdp.episodes import Links, link
from qurate.mdp.rewards import DERIVED, Reward, parse_rewards, resolve_rewards, rewards_of_log, unrewarded, weights_of
from qurate.mdp.splits import Split, split_by_column, split_by_time
from qurate.mdp.storage import SCHEMA_VERSION, Dataset
from qurate.types import SESSION_GAP_US, TEST, TRAIN, VALID, FloatArray, Transitions

SHORT_LOG_US = 7 * 86_400_000_000
"""A log that spans less than this says nothing about customers who come back: episodes are sessions."""

Duration = str | float | int

__all__ = ["Dataset", "build_dataset", "dataset_of", "parse_duration"]


def build_dataset(
    log: EventLog | Paths | Frame,
    rewards: str | Mapping[str, Any] | None = None,
    items: str | Path | Frame | None = None,
    users: str | Path | Frame | None = None,
    *,
    episode: Literal["session", "user"] | None = None,
    split: Literal["time", "column"] = "time",
    churn_after: Duration | None = None,
    tau: Duration = "30d",
    out: str | Path | None = None,
    session_gap_us: int = SESSION_GAP_US,
    title_column: str | None = None,
) -> Dataset:
    """A dataset from a log.

    Args:
        log: what `read_events` gave; or what it takes (a DataFrame, a path), read without options.
        rewards: `click=1,purchase=10`, `{type: weight}` or `{type: {weight, per: value, cap}}`; None: those of the model that a
            service answered with, else the defaults.
        items: declared items (`item_id`, features, optional `available_from` and `available_until`), as a DataFrame or a file;
            None: the log's own table.
        users: `user_id` and features; None: the log's own table.
        episode: session | user; None: session without user ids or where the log spans under 7 days, else user.
        split: by time; a log that brings its own split column is split by that.
        churn_after: silence after which a customer is gone (`30d`, `12h`, or a number of seconds); None: nobody is.
        tau: time constant of the discount across a pause, exp(-pause / tau).
        out: directory to write the dataset to.
        title_column: column of the items that is their title, where its name does not say so.
        session_gap_us: microseconds of silence that end a visit in a log without session ids.

    Raises:
        UserError: the log cannot train anything (no decision, one item, no reward), or an argument is wrong.
        MachineError: the directory cannot be written.

    >>> qurate.build_dataset(log, rewards={"click": 1, "purchase": 10})
    Dataset(organic, 240 events, 0 decisions, 6 users, 7 items, path=None)
    """
    if split not in ("time", "column"):
        raise UserError("time or column", str(split), where="split", hint="leave it out for time", code=Code.BAD_SPLIT)
    if episode not in (None, "session", "user"):
        raise UserError("session or user", str(episode), where="--episode", hint="leave it out for the default", code=Code.BAD_EPISODE)
    churn_us = None if churn_after is None else parse_duration(churn_after, "--churn-after")
    tau_us = parse_duration(tau, "tau")
    log = log if isinstance(log, EventLog) else read_events(log)
    items = _declared(log.items if items is None else _checked(items, "item_id", "items"), "item_id", "items")
    users = _declared(log.users if users is None else _checked(users, "user_id", "users"), "user_id", "users")
    _refuse_unknown_title(title_column, items)
    encoded = encode(log, items, users, () if rewards is None else parse_rewards(rewards))
    _refuse_unknown_splits(log, encoded)
    decisions = extract_decisions(encoded, log.kind, session_gap_us)
    _refuse_untrainable(decisions, encoded, log)
    components = _components(rewards, log, encoded, churn_us is not None)
    ends = _Ends(episode or _default_episode(log, decisions), session_gap_us, churn_us, tau_us)
    dataset = _assemble(log, encoded, decisions, _split(decisions, split), components, ends, items, users)
    if title_column is not None:
        dataset.item_spec["title"] = title_column  # models keep the spec
    return dataset if out is None else dataset.write(out)


def _components(rewards: str | Mapping[str, Any] | None, log: EventLog, encoded: Encoded, churn: bool) -> dict[str, Reward]:
    if rewards is None:
        rewards = rewards_of_log(log.rewards, encoded.types, log.kind, churn)
    for name in () if rewards is None else parse_rewards(rewards):
        if name not in encoded.types and name not in DERIVED:
            warnings.warn(unrewarded(name, encoded.types), stacklevel=3)
    return resolve_rewards(rewards, encoded.types, log.kind, churn)


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where episodes end and what a pause costs; microseconds."""

    rule: Literal["session", "user"]
    session_gap_us: int
    churn_after_us: int | None
    tau_us: int

    def to_json(self) -> dict[str, Any]:
        """As in the manifest, in seconds."""
        churn_after_s = None if self.churn_after_us is None else self.churn_after_us / 1e6
        gap_s, tau_s = self.session_gap_us / 1e6, self.tau_us / 1e6
        return {"rule": self.rule, "session_gap_s": gap_s, "churn_after_s": churn_after_s, "tau_s": tau_s}


def _assemble(
    log: EventLog,
    encoded: Encoded,
    decisions: DecisionTable,
    parts: Split,
    components: dict[str, Reward],
    ends: _Ends,
    items: pl.DataFrame | None,
    users: pl.DataFrame | None,
) -> Dataset:
    """The dataset of decisions: catalogue order, successors and ends, credit."""
    catalogue = order_catalogue(decisions, parts, encoded.items, items, log.time_unit == "order")
    decisions, ended = without_ended(decisions.renumber_items(catalogue.number), catalogue.availability)
    log_end = int(max(decisions.events.time.max(initial=0), decisions.clock.max()))
    links = link(decisions, parts, ends.rule, ends.churn_after_us, ends.session_gap_us, log_end)
    credited = credit(decisions, components, parts.horizon(log_end), links.gone)
    transitions = _transitions(decisions, parts, links, credited.reward)
    manifest = {
        **_origin(log, encoded, decisions.foreign, int(credited.report["events"]["not_among_the_shown"]), ended),
        "rewards": {name: reward.to_json() for name, reward in components.items()},
        "credit": credited.report,
        "credit_window_s": CREDIT_WINDOW_US / 1e6,
        "episode": ends.to_json(),
        "splits": {"rule": parts.rule, "cuts_us": parts.cuts, **_sizes(transitions)},
        "history": decisions.history,
        "candidate_columns": list(decisions.columns),
        "n_ever_available": catalogue.availability.n_ever,
        "counts": _counts(decisions, encoded, log),
    }
    return Dataset(
        arrays=decisions.arrays,
        transitions=transitions,
        components=list(components),
        weights=weights_of(components),
        row_visit=decisions.row_visit,
        state_visit=decisions.visit,
        rejects=log.rejects.select("line", "reason", "raw"),
        manifest=manifest,
        **_entities(encoded, decisions.types, catalogue, items, users),
    )


def _entities(
    encoded: Encoded, types: list[str], catalogue: Catalogue, items: pl.DataFrame | None, users: pl.DataFrame | None
) -> dict[str, Any]:
    """The fields of a dataset about its items and users: names, tables and encoded features."""
    features = None if items is None else items.drop("available_from", "available_until", strict=False)
    item_table = _joined(catalogue.table(encoded.items), features, "item_id")
    vocabulary = Vocabulary(tuple(item_table["item_id"].to_list()), tuple(types))
    user_table = _joined(pl.DataFrame({"user_id": encoded.users}, schema={"user_id": pl.String}), users, "user_id")
    item_features, item_spec = feature_matrix(item_table.drop("available_from", "available_until"))
    user_features, user_spec = feature_matrix(user_table)
    return {
        "vocabulary": vocabulary,
        "items": item_table,
        "users": user_table,
        "item_features": np.concatenate([np.zeros((1, item_features.shape[1]), np.float32), item_features]),
        "item_spec": item_spec,
        "user_features": user_features,
        "user_spec": user_spec,
    }


def dataset_of(data: Dataset | EventLog | str | Path | Frame) -> Dataset:
    """A dataset: as it is, of its directory, or built with the defaults from a log or a DataFrame.

    Raises:
        UserError: no dataset there, or a log that cannot train anything.
    """
    if isinstance(data, Dataset):
        return data
    return build_dataset(data) if isinstance(data, EventLog) or is_frame(data) else Dataset.read(str(data))


def parse_duration(given: Duration, where: str) -> int:
    """Microseconds from `90s`, `30m`, `12h`, `30d`, `2w`, or from a number (not text) of seconds.

    Raises:
        UserError: anything else, or not positive. Text without a unit is refused: 30 could be seconds or days.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
    text = f"{given}s" if isinstance(given, int | float) and not isinstance(given, bool) else str(given)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text)
    seconds = float(match[1]) * units[match[2]] if match else 0.0
    if not 0 < seconds < 1e10:
        hint = (
            f"add a unit s, m, h, d or w: {text.strip()}d is days" if text.strip().isdigit() else "give a number and a unit s, m, h, d or w"
        )
        raise UserError("a duration such as 30d, 12h or 10m", repr(given), where=where, hint=hint, code=Code.BAD_DURATION)
    return round(seconds * 1e6)


def _checked(table: str | Path | Frame, key: Owner, where: str) -> str | Path | Frame:
    """A DataFrame as it is checked where it stands in a file."""
    return side_frame(table, key, where) if is_frame(table) else table


def _declared(table: str | Path | Frame | None, key: Owner, where: str) -> pl.DataFrame | None:
    """The declared table with a text key, one row per id."""
    if table is None:
        return None
    frame = (lazy_frame(table) if is_frame(table) else read_features(table, key)).collect()
    if key not in frame.columns:
        raise UserError(
            f"a column {key}", ", ".join(frame.columns), where=where, hint=f"rename the id column to {key}", code=Code.MISSING_COLUMN
        )
    frame = frame.with_columns(pl.col(key).cast(pl.String))
    if key == "item_id":
        frame = declared_times(frame, where)
    return frame.filter(pl.col(key).is_not_null()).unique(key, maintain_order=True)  # rows of one id are equal: others were refused


def _refuse_unknown_splits(log: EventLog, encoded: Encoded) -> None:
    """A held-out row under another name (`val`, `Test`) would train."""
    known = list(SPLIT_NAMES.values())
    for table, columns in ((log.events, encoded.events), (log.decisions, encoded.decisions)):
        if table is None or columns is None or not np.any(columns.split == UNKNOWN_SPLIT):
            continue
        named = table.select(pl.col("split").drop_nulls().unique()).collect(engine="streaming")["split"]
        for name in sorted(set(named) - set(known)):
            raise UserError(
                f"one of {', '.join(known)}", repr(name), where="column split", hint=nearest(name, known), code=Code.UNKNOWN_SPLIT
            )


def _refuse_unknown_title(column: str | None, items: pl.DataFrame | None) -> None:
    if column is not None and (items is None or column not in items.columns):
        hint = "give the table of items with --items" if items is None else nearest(column, items.columns)
        raise UserError("a column of the table of items", column, where="--title-column", hint=hint, code=Code.UNKNOWN_COLUMN)


def _refuse_untrainable(decisions: DecisionTable, encoded: Encoded, log: EventLog) -> None:
    where = ", ".join(log.source) or "the log"
    if not len(decisions.history_end):
        got = f"{len(encoded.events.user)} event(s) of {len(encoded.users)} user(s) with one item event each"
        raise UserError(
            "a customer with at least two events",
            got,
            where=where,
            hint="a single event has no history to decide from",
            code=Code.NO_DECISIONS,
        )
    if len(encoded.items) < 2:
        raise UserError(
            "at least two items", f"{len(encoded.items)}", where=where, hint="with one item there is nothing to choose", code=Code.ONE_ITEM
        )


def _default_episode(log: EventLog, decisions: DecisionTable) -> Literal["session", "user"]:
    times = [column for column in (decisions.events.time, decisions.clock) if len(column)]
    span = max(int(column.max()) for column in times) - min(int(column.min()) for column in times)
    return "session" if not log.has_users or log.time_unit == "order" or span < SHORT_LOG_US else "user"


def _split(decisions: DecisionTable, rule: str) -> Split:
    if bool(np.any(decisions.split != NO_SPLIT)):
        return split_by_column(decisions.split)
    if rule == "column":
        raise UserError("a split column", "none", where="split", hint="leave split out to split by time", code=Code.NO_SPLIT_COLUMN)
    return split_by_time(decisions.when)


def _joined(table: pl.DataFrame, features: pl.DataFrame | None, key: str) -> pl.DataFrame:
    return table if features is None else table.join(features, on=key, how="left", maintain_order="left")


def _transitions(decisions: DecisionTable, parts: Split, links: Links, reward: FloatArray) -> Transitions:
    states = repeat_states(decisions.action_start)
    return Transitions(
        user=decisions.user,
        history_end=decisions.history_end.astype(np.int64),
        clock=decisions.clock,
        candidates=decisions.candidates,
        candidates_start=decisions.candidates_start,
        candidate_values=decisions.candidate_values,
        excluded=decisions.excluded,
        excluded_start=decisions.excluded_start if len(decisions.excluded) else np.empty(0, np.int64),
        split=parts.of,
        state=states,
        action=decisions.action,
        reward=reward,
        pause=links.pause[states],
        next_state=links.next[states],
        end=links.end[states],
        propensity=decisions.propensity,
    )


def _sizes(transitions: Transitions) -> dict[str, int]:
    return {name: int(np.count_nonzero(transitions.split == code)) for name, code in (("train", TRAIN), ("valid", VALID), ("test", TEST))}


def _origin(log: EventLog, encoded: Encoded, n_foreign: int, n_elsewhere: int, ended: list[str]) -> dict[str, Any]:
    by, ties = sorted_by(log), sorted_ties(log)
    odd = [f"{n_foreign} events name another user's decision and are credited as if they named none"] if n_foreign else []
    odd += [f"{n_elsewhere:,} events name a decision that did not show their item, and are not credited"] if n_elsewhere else []
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": log.kind,
        "layout": log.layout,
        "time_unit": log.time_unit,
        **({} if by is None else {"sorted_by": by}),
        **({} if ties is None else {"sorted_ties": round(ties, 4)}),
        "source": [Path(name).name for name in log.source],
        "notes": [*log.typed_notes, *encoded.notes, *odd, *ended],
    }


def _counts(decisions: DecisionTable, encoded: Encoded, log: EventLog) -> dict[str, int]:
    active = np.bincount(decisions.events.user, minlength=len(encoded.users)) + np.bincount(decisions.user, minlength=len(encoded.users))
    return {
        "events": len(decisions.events.user),
        "decisions": 0 if encoded.decisions is None else len(decisions.history_end),
        "states": len(decisions.history_end),
        "transitions": len(decisions.action),
        "users": int(np.count_nonzero(active)),
        "items": len(encoded.items),
        "types": len(decisions.types),
        "visits": int(decisions.row_visit.max(initial=-1)) + 1,
        "rejected": log.rejects.height,
    }
