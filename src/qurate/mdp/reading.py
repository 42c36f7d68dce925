"""One way from files to a dataset for `validate` and `ingest`: the plan, the checks, the dataset. What fails one fails both."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from qurate.errors import Code, UserError
from qurate.events.readers import read_events
from qurate.events.reasons import Reason
from qurate.events.schema import EventLog
from qurate.events.set_aside import refuse_if_bad
from qurate.events.side_tables import Owner, SideTable, read_side_table
from qurate.events.validate import ABOUT_LISTS, UNLISTED, validate
from qurate.mdp.dataset import build_dataset, parse_duration
from qurate.mdp.plan import command, plan_of, plausibility
from qurate.mdp.rewards import parse_rewards
from qurate.mdp.storage import Dataset

SAMPLE, SAMPLE_EACH = 10_000, 2_000
"""A plan reads so many rows of a file, or of each of several."""


def _is_of(key: str, path: Path) -> bool:
    """Whether `FILE:name` of `--map` is about this file."""
    return ":" in key and key.rpartition(":")[0] in (str(path), path.name, path.stem)


@dataclass(frozen=True)
class Request:
    """What the user asked for: the log, and the options of `ingest`."""

    log: list[Path]
    read: dict[str, Any] = field(default_factory=dict)  # of `read_events`
    build: dict[str, Any] = field(default_factory=dict)  # of `build_dataset`
    items: Path | None = None
    users: Path | None = None
    max_bad: float = 0.01
    typed: dict[str, Any] = field(default_factory=dict)  # the options as typed, for the command that repeats them
    output: Path | None = None
    kept: dict[str, EventLog] = field(default_factory=dict, compare=False, repr=False)  # the "log", once it was read whole

    @property
    def source(self) -> Path | list[Path]:
        """One path, or several."""
        return self.log[0] if len(self.log) == 1 else self.log

    @property
    def map(self) -> dict[str, str]:
        """`--map` as typed."""
        return self.read.get("map") or {}

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of `read_events`: without what is said about the tables of items and users."""
        tables = [path for path in (self.items, self.users) if path is not None]
        kept = {key: column for key, column in self.map.items() if not any(_is_of(key, path) for path in tables)}
        return {**self.read, "map": kept or None}

    def read_log(self, rows: int | None = None) -> EventLog:
        """The log, or so many rows of each of its files; what a plan read whole is not read again.

        Raises:
            UserError: the files cannot be read as a log.
        """
        if "log" in self.kept:
            return self.kept["log"]
        log = read_events(self.source, **self.reading, max_bad=1.0, rows=rows)
        if log.whole:
            self.kept["log"] = log
        return log

    def table(self, owner: Owner) -> SideTable | None:
        """The table of items or users that was named.

        Raises:
            UserError: it cannot be read, or has no column of ids.
        """
        path = self.items if owner == "item_id" else self.users
        if path is None:
            return None
        names = {key.rpartition(":")[2]: column for key, column in self.map.items() if _is_of(key, path)}
        return read_side_table(path, owner, names, encoding=self.read.get("encoding"))

    def tables(self) -> tuple[pl.DataFrame | None, pl.DataFrame | None, list[SideTable]]:
        """The tables of items and of users that were named, and how they were read."""
        found = [self.table("item_id"), self.table("user_id")]
        items, users = (None if one is None else one.frame.collect() for one in found)
        return items, users, [one for one in found if one is not None]


@dataclass(frozen=True)
class Checked:
    """A log that was read, and what is wrong with it."""

    log: EventLog
    checks: list[dict[str, Any]]
    dataset: Dataset | None  # None where a check fails
    notes: list[str]
    error: UserError | None = None  # why no dataset could be built

    @property
    def ok(self) -> bool:
        """Whether it can be ingested."""
        return all(check["ok"] for check in self.checks)


def plan(request: Request) -> dict[str, Any]:
    """The plan from the first rows of each file, with "command": what repeats the reading with every assumption said.

    Raises:
        UserError: the files cannot be read as a log.
    """
    if request.build.get("rewards") is not None:
        parse_rewards(request.build["rewards"])
    if request.build.get("churn_after") is not None:
        parse_duration(request.build["churn_after"], "--churn-after")
    rows = SAMPLE if len(request.log) == 1 and not request.log[0].is_dir() else SAMPLE_EACH
    log = request.read_log(rows)
    items, users, given = request.tables()
    made = plan_of(
        log,
        request.build.get("rewards"),
        items,
        users,
        sampled=None if log.whole else rows,
        churn=request.build.get("churn_after") is not None,
        title=request.build.get("title_column"),
    )
    made["notes"] += [note for one in given for note in one.notes]
    named = {one.found["table"] for one in given}
    made["tables"] = [*(one for one in made["tables"] if one["table"] not in named), *(one.found for one in given)]
    if not log.whole:
        try:
            refuse_if_bad(log, request.max_bad)
        except UserError as error:
            made["notes"].append(f"of the first rows {error.got} are bad; {error.hint}: `ingest` expects {error.expected} of all")
    return {**made, "command": command(log, request.log, request.typed, request.output)}


def check(request: Request, say: Callable[[str], None] = lambda stage: None, order: bool = False) -> Checked:
    """The log read whole, every check, and the dataset where all of them pass.

    Args:
        request: the log and its options.
        say: called with the name of each stage.
        order: also count rows that stand out of order, which never fails.

    Raises:
        UserError: the files cannot be read as a log.
    """
    items, users, given = request.tables()
    said = [note for one in given for note in one.notes]
    say("reading")
    log = request.read_log()
    say("checking")
    checks = validate(log, request.max_bad, order=order)["checks"]
    dataset, notes = None, said
    if all(one["ok"] for one in checks):
        say("building the dataset")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the plan says it
                dataset = build_dataset(log, items=items, users=users, **request.build)
        except UserError as error:
            checks.append({"name": "can be trained", "ok": False, "count": 0, "rows": [], "message": error.typed})
            return Checked(log, checks, None, said, error)
        checks.append({"name": "can be trained", "ok": True, "count": 0, "rows": [], "message": "decisions, items and rewards are there"})
        notes = [*said, *plausibility(dataset)]
        for name, spec in (("items", dataset.item_spec), ("users", dataset.user_spec)):
            left = spec["dropped"]
            notes += [f"left out of the features of {name} (constant, or text that hardly repeats): {', '.join(left)}"] if left else []
    late = log.rejects.filter(pl.col("code") == Reason.FUTURE).height
    notes += [
        f"{one['message']} (first in line {one['rows'][0]})" for one in checks if one["name"] == UNLISTED and one["ok"] and one["count"]
    ]
    notes += [f"{late:,} rows lie in the future and are left out"] if late else []
    return Checked(log, checks, dataset, notes)


def refusal(request: Request) -> UserError | None:
    """Why `ingest` would refuse a log that its plan has read whole, with the error of `ingest`; None where it would not.

    A log from which too little is learned, as a few rows of a longer one are, is read right.
    """
    if "log" not in request.kept:
        return None
    try:
        refuse(request, check(request))
    except UserError as error:
        return None if error.code in (Code.NO_DECISIONS, Code.ONE_ITEM) else error
    return None


def refuse(request: Request, checked: Checked) -> None:
    """
    Raises:
        UserError: a check fails.
    """
    if checked.ok:
        return
    refuse_if_bad(checked.log, request.max_bad)
    if checked.error is not None:
        raise checked.error
    failed = next(one for one in checked.checks if not one["ok"])
    lines = ", ".join(map(str, failed["rows"]))
    file = checked.log.source[-1] if failed["name"] in ABOUT_LISTS and checked.log.decision_rows else str(request.log[0])
    raise UserError(
        f"a log that passes its checks ({failed['name']})",
        failed["message"],
        where=file + (f", lines {lines}" if lines else ""),
        hint="repair them, or raise --max-bad; `qurate validate` shows all checks",
        code=Code.CHECK_FAILED,
    )
