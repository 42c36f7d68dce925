"""The role that a column could have by its values, where names do not tell: for the hint of an error."""

from collections.abc import Callable

import polars as pl

from qurate.events.fields import key_of
from qurate.events.paths import paths_in

ITEM_KEYS = ("id", "documentid", "canonicalurl", "pageurl", "url", "page", "path")
"""Names of what a row may be about, the surest first: of the row itself where each value occurs once."""
REPEATED = 0.9
"""Where so many of the values differ, they are of the rows."""
CLOCK = r"^\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?$"
OWNERS = {"user": "user_id", "customer": "user_id", "visitor": "user_id", "item": "item_id", "product": "item_id", "article": "item_id"}
"""Objects whose `id` has a role."""


def guesses_by_values(found: dict[str, str], taken: set[str], sample: pl.DataFrame, role_of: Callable[[str], str | None]) -> dict[str, str]:
    """More of what `guesses` gives: role -> column, path, or two columns.

    Args:
        found: by the names of columns.
        taken: columns that have a role.
        sample: rows of the table.
        role_of: the role that a name says.
    """
    out = dict(found)
    free = [name for name in sample.columns if name not in taken and not sample[name].dtype.is_nested()]
    if "timestamp" in out and (clock := _clock_beside(out["timestamp"], free, sample)):
        out["timestamp"] = f"{out['timestamp']}+{clock}"
    for role in ("user_id", "item_id", "session_id"):
        if out.get(role) in sample.columns and (ids := [path for path in paths_in(sample.select(out[role])) if _is_id(path, role)]):
            out[role] = ids[0]
    wanted = {"user_id", "item_id", "timestamp"} - set(out) - ({"item_id"} if "shown" in out else set())
    paths = paths_in(sample) if wanted else []
    for role in sorted(wanted):
        if path := next((path for path in paths if _role_inside(path, role_of) == role), None):
            out[role] = path
    if "item_id" in wanted and "item_id" not in out:
        by_key = {key_of(name): name for name in reversed(free)}
        about = [by_key[key] for key in ITEM_KEYS if key in by_key and _repeats(sample[by_key[key]])]
        out |= {"item_id": about[0]} if about else {}
    return out


def _is_id(path: str, role: str) -> bool:
    """Whether a path within an object leads to what names it."""
    return path.count(".") == 1 and key_of(path.partition(".")[2]) in ("id", key_of(role))


def _role_inside(path: str, role_of: Callable[[str], str | None]) -> str | None:
    """The role of what stands at a path; of an `id` that of its owner."""
    *owners, name = path.split(".")
    return OWNERS.get(key_of(owners[-1])) if key_of(name) == "id" else role_of(name)


def _repeats(values: pl.Series) -> bool:
    known = values.drop_nulls()
    return len(known) > 1 and known.n_unique() < REPEATED * len(known)


def _clock_beside(day: str, free: list[str], sample: pl.DataFrame) -> str | None:
    """A column of clock times, where `day` holds days only."""
    if day not in sample.columns or sample[day].dtype not in (pl.String, pl.Date):
        return None
    days = sample[day].cast(pl.String).drop_nulls()
    if days.str.contains(":", literal=True).any():
        return None
    texts = {name: sample[name].cast(pl.String).drop_nulls() for name in free if name != day and sample[name].dtype in (pl.String, pl.Time)}
    return next((name for name, known in texts.items() if len(known) and known.str.contains(CLOCK).all()), None)
