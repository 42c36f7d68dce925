"""What a row says of each candidate (`candidate.NAME`): as many numbers as candidates, and what is none of them named."""

import polars as pl

from qurate.events.fields import MISSING, Columns, Fields
from qurate.events.reasons import Reason
from qurate.events.schema import CANDIDATE, FILE_ROWS

NOT_KNOWN = [*dict.fromkeys(word.lower() for word in (*MISSING, "NA", "N/A"))]
"""What stands for a number that is not known, in small letters."""


def candidate_problems(fields: Fields, columns: Columns) -> list[pl.Expr]:
    """Reasons (`Reason.of`) why what a row says of its candidates cannot be read, null where it can.

    Only of columns `candidate.NAME`: what a published layout says under other names is left out where it does not fit.

    Args:
        fields: what a layout makes of the rows. columns: of the source.
    """
    names = [name for name in fields if name.startswith(CANDIDATE) and name in columns]
    if not names or "_shown" not in fields:
        return []
    shown = fields["_shown"].list.len()
    pool = fields["_candidates"].list.len() if "_candidates" in fields else pl.lit(None, pl.UInt32)
    of = pl.when(pool.is_null()).then(pl.lit("items shown")).otherwise(pl.lit("candidates"))
    found: list[pl.Expr] = []
    for name in names:
        given, wanted = fields[name].list.len(), pl.coalesce(pool, shown)
        text = pl.concat_str(
            pl.lit(Reason.CANDIDATE_COUNT.of(f"{name} has ")),
            given.cast(pl.String),
            pl.lit(" numbers for "),
            wanted.cast(pl.String),
            pl.lit(" "),
            of,
        )
        found.append(pl.when((given != wanted) & shown.is_not_null()).then(text))
        found.append(pl.when(shown.is_not_null() & _holds_words(name, columns[name])).then(pl.lit(Reason.CANDIDATE_NUMBER.of(name))))
    return found


def _holds_words(name: str, dtype: pl.DataType) -> pl.Expr:
    """Whether a list holds text that is neither a number nor stands for a missing one."""
    if isinstance(dtype, pl.List | pl.Array):
        if dtype.inner != pl.String:
            return pl.lit(False)
        texts = pl.col(name).cast(pl.List(pl.String))
    elif dtype == pl.String:
        texts = pl.col(name).str.strip_chars("[](){} ").str.extract_all(r"[^\s,;|]+")
    else:
        return pl.lit(False)
    odd = (
        pl.element().is_not_null()
        & pl.element().cast(pl.Float64, strict=False).is_null()
        & ~pl.element().str.to_lowercase().is_in(NOT_KNOWN)
    )
    return texts.list.eval(odd).list.any()


def not_known_said(rows: pl.LazyFrame) -> list[str]:
    """A note for each `candidate.NAME` that is not known everywhere: numbers and whole lists that are missing, and the first line.

    NaN and infinite numbers count as not known wherever they are read.

    Args:
        rows: with the columns `_shown` and `row`.
    """
    names = [name for name in rows.collect_schema().names() if name.startswith(CANDIDATE)]
    if not names:
        return []
    asked = pl.col("_shown").is_not_null()
    odd = [pl.col(name).list.eval(~pl.element().is_finite().fill_null(False)).list.sum() for name in names]
    figures = [
        figure.alias(f"{place} {name}")
        for name, n in zip(names, odd)
        for place, figure in enumerate(
            (
                n.sum(),
                pl.col(name).list.len().sum(),
                (asked & pl.col(name).is_null()).sum(),
                asked.sum(),
                pl.col("row").filter(asked & ((n > 0) | pl.col(name).is_null())).min(),
            )
        )
    ]
    found = rows.select(figures).collect(engine="streaming").row(0)
    notes = []
    for name, n, total, lists, decisions, first in zip(names, *(found[place::5] for place in range(5))):
        said = [f"{n:,} of {total:,} numbers"] if n else []
        said += [f"the lists of {lists:,} of {decisions:,} decisions"] if lists else []
        if said:
            notes.append(f"{name}: {' and '.join(said)} are not known (first in line {first % FILE_ROWS})")
    return notes
