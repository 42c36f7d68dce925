"""Rows that are set aside: duplicates, bad rows with line, reason and text, and the limit on their number."""

import numpy as np
import polars as pl

from qurate.errors import Code, UserError
from qurate.events.fields import STEM, Columns, Layout
from qurate.events.layouts import OWN_LAYOUT
from qurate.events.lines import raw_lines
from qurate.events.reasons import Reason, said
from qurate.events.roles import DIGEST, SAMPLE_ROWS
from qurate.events.schema import FILE_ROWS, OF_DECISIONS, EventLog, empty_rejects
from qurate.events.sources import BROKEN, EXTRA, Table

DAY_US = 86_400_000_000
MAX_REJECTS = 1_000_000
"""Rejected rows kept with their text; a log with more is refused by any sensible limit."""


def digest_of(columns: Columns) -> pl.Expr:
    """A 64-bit hash of a whole source row."""
    names = [name for name in columns if name not in ("row", STEM, EXTRA, BROKEN, DIGEST)]
    digest = pl.struct(names).hash(seed=1)
    return pl.coalesce(DIGEST, digest) if DIGEST in columns else digest  # of the row before its lists became rows


def doubles_of(seen: pl.DataFrame, layout: Layout, keep: bool) -> pl.Series:
    """Rows that repeat an earlier one, whole (unless they are kept) or by event_id."""
    good = seen if seen["_problem"].null_count() == seen.height else seen.filter(pl.col("_problem").is_null())
    doubles = [pl.Series("row", [], dtype=pl.UInt64)]
    if layout.dedupe and not keep:
        # Several events of one row share its number and its hash.
        whole = good.filter((pl.col("row") != pl.col("row").shift(1)).fill_null(True)) if layout is OWN_LAYOUT else good
        hashes = np.sort(whole[DIGEST].to_numpy())  # sorting them is three times faster than a table of them
        if np.any(hashes[1:] == hashes[:-1]):
            doubles.append(whole.filter(~pl.col(DIGEST).is_first_distinct())["row"])
    if "event_id" in seen.columns:
        doubles.append(good.filter(pl.col("event_id").is_not_null() & ~pl.col("event_id").is_first_distinct())["row"])
    return pl.concat(doubles).unique().sort()


def rejects_of(bad: pl.DataFrame, doubles: pl.Series, tables: list[Table], start: int) -> pl.DataFrame:
    """Line, reason and text of the bad rows and dropped duplicates; with several files the reason names the file."""
    repeated = pl.DataFrame({"row": doubles}).with_columns(pl.lit(Reason.DUPLICATE.of()).alias("reason"))
    found = pl.concat([bad, repeated]).sort("row").head(MAX_REJECTS)
    if found.height == 0:
        return empty_rejects()
    out = []
    for place, table in enumerate(tables, start):
        mine = found.filter((pl.col("row") // FILE_ROWS) == place)
        rows = (mine["row"] - place * FILE_ROWS).to_list()
        texts = raw_lines(table, rows)
        lines, raw = zip(*(texts.get(row, (row, "")) for row in rows)) if rows else ((), ())
        code, text = said(mine["reason"])
        reason = text if len(tables) == 1 else table.path.name + ": " + text
        out.append(pl.DataFrame({"line": lines, "reason": reason, "raw": raw, "code": code}, schema=empty_rejects().schema))
    return pl.concat(out)


def refuse_if_bad(log: EventLog, max_bad: float) -> None:
    """
    Raises:
        UserError: more than this share of the rows are bad.
    """
    bad, of, source = log.rejects.filter(pl.col("code") != Reason.DUPLICATE), log.rows, log.source[0]
    asked = bad.filter(pl.col("reason").str.starts_with(OF_DECISIONS))
    if asked.height > max_bad * log.decision_rows:  # of few decisions beside many events all may be bad
        bad, of, source = asked, log.decision_rows, log.source[-1]
    if bad.height <= max_bad * of:
        return
    counts = bad["reason"].value_counts(sort=True)
    line = bad.filter(pl.col("reason") == counts["reason"][0])["line"][0]
    got = f"{bad.height:,} of {of:,} ({bad.height / of:.1%}), most often: {counts['reason'][0]} (first in line {line})"
    bytes_note = (
        next((note for note in log.typed_notes if "--encoding" in note), "")
        if counts["reason"][0].endswith(Reason.NOT_UTF8.text.format(""))
        else ""
    )
    hint = bytes_note or "repair them, or raise --max-bad"
    if str(counts["reason"][0]).endswith(Reason.PROPENSITY.text):
        hint = "write probabilities: percentages divided by 100, e to the power of logarithms, nothing where it is not known"
    if str(counts["reason"][0]).endswith(Reason.MISSING.text.format("user_id")) and log.layout == OWN_LAYOUT.name:
        hint += "; a session stands in with --map session_id=COLUMN; where only the first row of an order names its user, repeat it below"
    if str(counts["reason"][0]).endswith(Reason.MISSING.text.format("item_id")) and log.layout == OWN_LAYOUT.name:
        hint += "; or say --type view to keep them as events about no item, if that is what the rows are"
    raise UserError(f"at most {max_bad:.2%} bad rows", got, where=source, hint=hint, code=Code.TOO_MANY_BAD_ROWS)


def whole_days_of(frame: pl.LazyFrame, moment: pl.Expr) -> bool:
    """Whether the times say the day only."""
    times = frame.select(moment.cast(pl.Int64).alias("t")).drop_nulls().head(SAMPLE_ROWS).collect(engine="streaming")["t"]
    return len(times) > 1 and bool((times % DAY_US == 0).all())
