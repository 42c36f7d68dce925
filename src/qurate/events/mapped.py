"""What `--map` says: checked against the columns of a table, and as expressions."""

import polars as pl

from qurate.errors import Code, UserError, nearest
from qurate.events.fields import Columns
from qurate.events.paths import lookup, value_at
from qurate.events.roles import CLICKED, MAPPABLE, contract_names
from qurate.events.times import with_blanks


def check_map(mapped: dict[str, str], columns: Columns, sample: pl.DataFrame, where: str) -> None:
    """
    Raises:
        UserError: a name that is not the contract's, a column that is not there, or one for two names.
    """
    seen: dict[str, str] = {}
    for target, source in mapped.items():
        if target not in (*contract_names(mapped), CLICKED):
            hint = nearest(target, [*MAPPABLE, CLICKED])
            raise UserError("a column of the contract", target, where="--map", hint=hint, code=Code.UNKNOWN_COLUMN)
        for part in parts_of(target, source, columns):
            try:
                lookup(part, columns, sample, f"--map {target}={source}, {where}")
            except UserError as error:
                if target != "type":
                    raise
                hint = f"{error.hint}; one type for all rows is said with --type {source}"
                raise UserError(error.expected, error.got, where=error.where, hint=hint, code=error.code) from None
        if source in seen:
            raise UserError(
                "a column of its own for each name",
                f"{source} twice",
                where=f"--map, {where}",
                hint="leave one of them out",
                code=Code.BAD_MAP,
            )
        seen[source] = target


def joined_values(parts: list[str], columns: Columns) -> pl.Expr:
    """The value of a path, or several of them with blanks between (`times.with_blanks`)."""
    values = [pl.col(part) if part in columns else value_at(part, columns) for part in parts]
    return values[0] if len(values) == 1 else with_blanks([one.cast(pl.String).str.strip_chars() for one in values])


def parts_of(target: str, source: str, columns: Columns) -> list[str]:
    """`date+time` as two columns, for times only."""
    return source.split("+") if target == "timestamp" and source not in columns and "+" in source else [source]
