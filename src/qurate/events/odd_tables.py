"""Text tables that are written in uncommon ways: lines above the header, names with a prefix; and text that is no table of events."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from qurate.errors import Code, UserError

BORDER = re.compile(r"\+[-+=]+\+\s*$")
"""A line between the rows of a table as databases print it: `+----+----+`."""
PAIR = re.compile(r"([A-Za-z][\w/ .-]{0,40}): \S")
"""A line of a record that has a line for each field: `review/score: 5.0`."""
ID = re.compile(r"[^\s,;\"'{}\[\]:|]+")
TITLE_LINES, LEAST_WIDTH, MOSTLY = 20, 3, 0.8
WIDTHS, COMMON, MANY = 4, 0.6, 8
"""Lines of so many different lengths, none of which so large a share of them has, hold a list each, if there are so many."""

Split = Callable[[str, str], list[str]]


def refuse_other_shapes(rows: list[str], where: str) -> None:
    """Refuses text whose lines are no rows of one event each, with a command that rewrites it.

    Args:
        rows: first lines, none blank. where: the file, for errors.

    Raises:
        UserError: the lines are no rows of one event each: the item stands above its rows, a record has several lines, or a line is a
            list of ids.
    """
    _refuse_headings(rows, where)
    _refuse_records(rows, where)
    _refuse_lists(rows, where)


def _refuse_headings(rows: list[str], where: str) -> None:
    """Refuses lines with an item above the lines of its users.

    Raises:
        UserError: lines such as `1:` stand above the rows of an item, as in the Netflix prize.
    """
    if re.fullmatch(r"\d+:", rows[0].strip()) and len(rows) > 1 and rows[1].count(",") == 2:
        plain = "awk -F: '/:$/ {item = $1; next} {print item \",\" $0}'"
        hint = f"write it into each row: {plain} {where} > ratings.csv, and ingest ratings.csv --columns item_id,user_id,rating,timestamp"
        got = f"it in a line above its rows: {rows[0].strip()}"
        raise UserError("the item in each row", got, where=where, hint=hint, code=Code.NO_HEADER)


def _refuse_records(rows: list[str], where: str) -> None:
    """Refuses records of several lines.

    Raises:
        UserError: a record has a line for each of its fields, as in the reviews of SNAP.
    """
    names = [match[1] for row in rows if (match := PAIR.match(row))]
    first = PAIR.match(rows[0])
    if first is None or names.count(first[1]) < 3 or len(names) < MOSTLY * len(rows) or len(set(names)) < LEAST_WIDTH:
        return
    source, target = (json.dumps(str(path), ensure_ascii=False) for path in (where, Path(where).with_suffix(".jsonl")))
    record = 'dict(l.split(": ", 1) for l in b.splitlines() if ": " in l)'
    made = f'json.dumps({{k.split("/")[-1]: v for k, v in {record}.items()}}) + chr(10)'
    blocks = f'open({source}, errors="replace").read().split(chr(10) * 2)'
    code = f'import json; open({target}, "w").writelines({made} for b in {blocks} if ": " in b)'
    got = f"a line for each field ({', '.join(dict.fromkeys(names))})"
    hint = f"write one a line: python -c {shlex.quote(code)}"
    raise UserError("one row for each event", got, where=where, hint=hint, code=Code.NO_HEADER)


def _refuse_lists(rows: list[str], where: str) -> None:
    """Refuses lines that hold a list of ids.

    Raises:
        UserError: each line is a list of ids: a user and the items of that user, or a basket.
    """
    sign = next((sign for sign in (",", "\t", ";") if any(sign in row for row in rows)), " ")
    fields = [[field.strip() for field in row.split(sign if sign != " " else None)] for row in rows]
    widths = Counter(map(len, fields))
    if len(rows) < MANY or len(widths) < WIDTHS or max(widths.values()) > COMMON * len(rows):
        return
    if sign == " " and not all(field.isdigit() for row in fields for field in row):
        return
    if not all(ID.fullmatch(field.replace(" ", "_")) for row in fields for field in row if field):
        return
    by_user = sign == " " and len({row[0] for row in fields}) == len(set(map(tuple, fields)))
    option = "" if sign == " " else f" -F{shlex.quote(sign)}"
    loop = '{for (k = 2; k <= NF; k++) print $1 "," $k}' if by_user else '{for (k = 1; k <= NF; k++) print NR "," $k}'
    got = f"a list in each line ({rows[1].strip()[:40]})"
    hint = f"write one row an item: awk{option} '{loop}' {shlex.quote(where)} > pairs.csv, and ingest pairs.csv "
    hint += "--columns user_id,item_id --order" + ("" if by_user else ", if each line is of one user")
    raise UserError("one row for each event", got, where=where, hint=hint, code=Code.NO_HEADER)


def titles_before(lines: Sequence[str], separators: Sequence[str], split: Split, is_value: Callable[[str], bool]) -> int:
    """How many lines stand above the header that are no rows, such as the title of a report; 0 in most files.

    Args:
        lines: first lines of the file. separators: that may be there. split: a line and a separator -> fields.
        is_value: whether a field is a number or a date.
    """
    rows = [(number, line) for number, line in enumerate(lines) if line.strip()]
    for place, (number, line) in enumerate(rows[:TITLE_LINES]):
        if place and any(is_value(field) for sign in separators for field in split(line, sign)):
            return 0
        for sign in separators if place else ():
            names, below = split(line, sign), [len(split(row, sign)) for _, row in rows[place + 1 :]]
            if len(names) >= LEAST_WIDTH and all(map(str.strip, names)) and below and below.count(len(names)) >= MOSTLY * len(below):
                return number
        if any(sum(map(bool, map(str.strip, split(line, sign)))) > 1 for sign in separators):
            return 0
    return 0


def without_prefix(names: list[str]) -> tuple[list[str], str]:
    """Names without what stands before the point in all of them, as Hive writes `log.user_id`; and that prefix, "" where there is none."""
    prefix = names[0].partition(".")[0] + "."
    bare = [name.removeprefix(prefix) for name in names]
    same = len(names) >= LEAST_WIDTH and len(prefix) > 1 and all(name.startswith(prefix) for name in names)
    return (bare, prefix) if same and len(set(bare)) == len(bare) and all(bare) else (names, "")
