"""A matrix in place of a log, one row a user and one column an item: how to write it with one row a rating, for the hint of an error."""

import json
import re
import shlex
from collections import Counter
from pathlib import Path

import polars as pl

from qurate.events.places import PARQUET_SUFFIXES

ALIKE, MANY, SHARE = 8, 20, 0.8
"""So many columns with names alike are items; of other names so many; and such a share of all columns."""
SMALL = 10
"""Ratings go up to this."""


def matrix_hint(path: Path, separator: str, sample: pl.DataFrame, free: list[str], *, named: bool) -> tuple[str, str] | None:
    """What the table is, and the command that writes it with one row a value; None for a table that is no matrix.

    Args:
        path: the file. separator: of its fields.
        sample: its first rows. free: columns that have no role.
        named: whether the file names its columns.
    """
    numbers = [name for name in free if _numeric(sample[name])]
    few = _small(sample, numbers)
    stems = Counter(re.sub(r"[\d.]+", "", name) for name in numbers).most_common(1)
    alike = [name for name in numbers if stems and re.sub(r"[\d.]+", "", name) == stems[0][0]]
    items = alike if len(alike) >= max(ALIKE, SHARE * len(numbers)) else few if len(few) >= MANY else []
    if len(items) < SHARE * len(free) or len(items) < ALIKE:
        return None
    cells = pl.concat([sample[name].cast(pl.String) for name in items]).drop_nulls()
    if cells.n_unique() > SHARE * len(cells):  # ratings repeat; features and embeddings do not
        return None
    if not named and len(few) < SHARE * len(items) and len(_fractions(sample, items)) < SHARE * len(items):
        return None
    source, target = (json.dumps(str(one), ensure_ascii=False) for one in (path, path.with_suffix(".long.csv")))
    users = [name for name in sample.columns if name not in items and name != "row"]
    index = json.dumps(users[0] if users and named else "user_id", ensure_ascii=False)
    sep = "" if separator in ("", ",") else f", separator={json.dumps(separator)}"
    read = f"pl.read_csv({source}, infer_schema=False{'' if named else ', has_header=False'}{sep})"
    read = f"pl.read_parquet({source})" if path.suffix in PARQUET_SUFFIXES else read
    read += "" if users and named else '.with_row_index("user_id")'
    code = f'import polars as pl; {read}.unpivot(index={index}, variable_name="item_id", value_name="rating").drop_nulls()'
    command = shlex.quote(f"{code}.write_csv({target})")
    hint = f"write one row a value: python -c {command}, leave out what is none, and ingest that with --order"
    return f"a matrix with a column an item ({', '.join(items[:3])}, ...)", hint


def numbered_hint(path: Path, separator: str, columns: list[str], item: str) -> tuple[str, str] | None:
    """What a table with several columns of items in a row is, and the command that writes it with one row an item; None for another.

    Args:
        path: the file. separator: of its fields.
        columns: of the file. item: one that may name an item.
    """
    stem = re.fullmatch(r"(.*?)_?\d+", item)
    several = [name for name in columns if stem and re.fullmatch(re.escape(stem[1]) + r"_?\d+", name)]
    if len(several) < 2:
        return None
    source, target = (json.dumps(str(one), ensure_ascii=False) for one in (path, path.with_suffix(".long.csv")))
    sep = "" if separator in ("", ",") else f", separator={json.dumps(separator)}"
    rest, items = (json.dumps(names, ensure_ascii=False) for names in ([name for name in columns if name not in several], several))
    code = f"import polars as pl; pl.read_csv({source}, infer_schema=False{sep}).unpivot({items}, index={rest}, "
    code += f'variable_name="place", value_name="item_id").drop_nulls("item_id").write_csv({target})'
    return f"a column for each of several items ({', '.join(several[:3])})", f"write one row an item: python -c {shlex.quote(code)}"


def _numeric(values: pl.Series) -> bool:
    if values.dtype.is_nested():
        return False
    known = values.cast(pl.String).str.strip_chars().drop_nulls()
    known = known.filter(known != "")
    return len(known) > 0 and known.cast(pl.Float64, strict=False).null_count() == 0


def _fractions(sample: pl.DataFrame, names: list[str]) -> list[str]:
    """Columns with numbers that are not whole."""
    return [name for name in names if (sample[name].cast(pl.Float64, strict=False) % 1 != 0).any()]


def _small(sample: pl.DataFrame, names: list[str]) -> list[str]:
    """Columns most of whose numbers are of the size of ratings."""
    sizes = {name: sample[name].cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False).drop_nulls().abs() for name in names}
    return [name for name, known in sizes.items() if 2 * (known <= SMALL).sum() > len(known)]
