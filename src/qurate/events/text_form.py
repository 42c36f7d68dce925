"""How a text table is written: its separator, its header, its comment lines, found by looking at its first lines."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from qurate.errors import Code, UserError
from qurate.events.odd_tables import BORDER, refuse_other_shapes, titles_before, without_prefix

SEPARATORS = ("::", "\t", ";", ",", "|")
RARE_SEPARATORS = ("\x01", "^", "~", "，")
"""Looked for where none of the others is found: of Hive, of old exports, of Chinese text."""
USUAL = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".user": "\t", ".item": "\t"}
NAMED_SEPARATORS = {"tab": "\t", "\\t": "\t", "blank": " ", "space": " ", "comma": ",", "semicolon": ";", "bar": "|"}
COMMENTS = ("#", "%")
CONSISTENT = 0.8
"""A separator is likely where so many of the lines have as many fields as the first one."""

NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|\.\d+)([eE][-+]?\d+)?$")
DECIMAL_COMMA = re.compile(r"-?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?")
THOUSANDS = re.compile(r"-?(?:[1-9]\d{0,2}(?:\.\d{3})+|\d{1,3})")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:\b|T)")
NAME = re.compile(
    r"(?i)#? ?((user|item|session|visitor|customer|product|video|article|movie|news|decision)[_ ]?id(:\w+)?|timestamp(:\w+)?)$"
)
"""A first line with such a field is a header."""
NOTHING = ("", "NULL", "null", "NaN", "nan", "None", "NA", "\\N")

EPOCH = re.compile(r"1\d{9}(\d{3}|\.\d+)?")
OLD_EPOCH = re.compile(r"[89]\d{8}")
"""Seconds from 1995 to 2001, as MovieLens has them; ids may look so too."""
FRACTION = re.compile(r"-?\d+\.\d*[1-9]\d*|-?\d+\.0+")
SMALL = re.compile(r"(10|\d)(\.\d+)?")
WORD = re.compile(r"[A-Za-z_-]+")
FEW_TYPES = 12
"""A column of so many different words may say what happened."""

MOVIELENS = {
    4: ["userId", "movieId", "rating", "timestamp"],
    3: ["movieId", "title", "genres"],
    5: ["userId", "gender", "age", "occupation", "zip"],
}
"""Columns of MovieLens' files with `::`, by their number."""


@dataclass(frozen=True)
class TextForm:
    """What the first lines say. Columns are named by their place, 1, 2, ..., where nothing names them."""

    separator: str
    names: list[str]
    before: int  # lines before the header, or before the first row where there is none
    height: int  # lines of the header, 0 without one
    comment: str = ""  # lines that begin with it are no rows
    quoted: bool = True  # whether quotes around a field belong to the format
    spaced_quotes: bool = False  # blanks stand between separators and quotes
    stray_quotes: bool = False  # quotes stand around fields although the format does not quote
    blank_fields: bool = False  # fields of blanks, or of quotes with nothing between, stand for nothing
    named: bool = True  # False: the columns have no names
    decimal_commas: tuple[str, ...] = ()  # columns whose numbers are written 1,5
    notes: tuple[str, ...] = ()
    first: tuple[str, ...] = ()  # fields of the first row, where it names nothing


def known_separator(separator: str | None) -> str | None:
    """A separator as given: itself, or the character that a word such as tab names.

    Raises:
        UserError: it is empty, or a quote or line break.
    """
    if separator is None:
        return None
    found = NAMED_SEPARATORS.get(separator.lower(), separator)
    if not found or any(c in found for c in '"\n\r'):
        hint = "such as , ; tab | :: or blank"
        raise UserError("a separator", repr(separator), where="--sep", hint=hint, code=Code.BAD_OPTION)
    return " " if not found.strip(" ") else found


def look(
    lines: Sequence[str],
    suffix: str,
    where: str,
    *,
    separator: str | None = None,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
) -> TextForm:
    """The form of a text table.

    Args:
        lines: its first lines, and some from places spread over it, without line ends.
        suffix: of its name, such as .csv.
        where: the file, for errors.
        separator, header, columns: what the user said; None: by looking.

    Raises:
        UserError: no column has a name, or as many names were given as the file has no columns.
    """
    before, prefix, above, rows, separator = _beginning(lines, suffix, where, separator)
    height = _height(lines[before:], separator)
    quoted = separator not in ("\t", "::", " ") or _all_quoted(rows[0], separator)
    text = "\n".join([rows[0], *lines[before + 1 : before + height]])
    first = [field.strip() for field in _split(text, separator, quoted, where, before + 1)]
    sample = [_fields(row, separator, quoted) for row in rows[1:]]
    numbered = header is None and not columns and _has_row_names(first, sample)
    first = ["", *first] if numbered else first
    names, has_header, named, notes = _names(first, sample, separator, header, columns, where)
    stray = not quoted and any(re.fullmatch(r'\s*".*"\s*', field) for row in [first, *sample] for field in row)
    loose = quoted and _is_unquoted(lines, separator)
    quoted, stray = quoted and not loose, stray or loose
    spaced = (
        quoted
        and any('"' in row for row in rows)
        and any(re.match(r'\s+".', field) for row in [_fields(rows[0], separator, True), *sample] for field in row)
    )
    commas, said = _decimal_commas(names, sample if has_header else [first, *sample]) if separator == ";" else ([], [])
    notes += [*_said(commas, prefix, above), *said]
    notes += ["quotes stand within fields and are part of them: no field begins with one"] if loose else []
    return TextForm(
        separator,
        names,
        before,
        height if has_header else 0,
        comment=prefix,
        quoted=quoted,
        spaced_quotes=spaced,
        stray_quotes=stray,
        blank_fields=stray or any(_is_blank(line, separator) for line in lines),
        named=named,
        decimal_commas=tuple(commas),
        notes=tuple(notes),
        first=() if has_header else tuple(first),
    )


def _beginning(lines: Sequence[str], suffix: str, where: str, separator: str | None) -> tuple[int, str, Sequence[str], list[str], str]:
    """Lines before the header, how comments begin, titles above it, the lines that are rows (the header first), and the separator.

    Raises:
        UserError: the lines are no rows of one event each.
    """
    before = next((number for number, line in enumerate(lines) if line.strip()), 0)
    excel = re.fullmatch(r"sep=([,;|\t])", lines[before], re.IGNORECASE) if lines and suffix == ".csv" else None
    separator = separator or (excel[1] if excel else None)
    before += excel is not None
    marks = COMMENTS if not lines or not BORDER.match(lines[before]) else ("+",)
    comments = next((n for n, line in enumerate(lines[before:]) if not line.startswith(marks)), 0)
    prefix = lines[before][0] if comments else ""
    titles = 0 if comments else titles_before(lines[before:], SEPARATORS, _split_by, _is_value)
    above, before = lines[before : before + titles], before + titles
    rows = [line for line in lines[before + comments :] if line.strip() and not (prefix and line.startswith(prefix))] or [""]
    refuse_other_shapes(rows, where)
    separator = separator or _separator(rows, USUAL.get(suffix))
    if comments and _is_commented_header(lines[before + comments - 1], prefix, rows, separator):
        comments -= 1
        rows = [lines[before + comments][1:].strip(), *rows]
    prefix = prefix if comments else ""
    before += comments
    return before, prefix, above, rows, separator


def _split_by(line: str, separator: str) -> list[str]:
    return _fields(line, separator, separator != "\t")


def _said(commas: list[str], prefix: str, above: Sequence[str]) -> list[str]:
    titles = [line.strip(" ,;\t") for line in above if line.strip()]
    said = [f"the first lines are no rows and are not read: {' / '.join(titles)[:80]}"] if titles else []
    said += [f"decimal commas in {', '.join(commas)} are read as points"] if commas else []
    return said + ([f"lines that begin with {prefix} are comments"] if prefix else [])


def _has_row_names(first: list[str], rows: list[list[str]]) -> bool:
    """Whether the header has a name fewer than all rows have fields, which begin with growing numbers: R writes its row names so."""
    if any(map(_is_value, first)) or not all(len(row) == len(first) + 1 and row[-1] for row in rows):
        return False
    numbers = [row[0].strip('" ') for row in rows]
    if not all(map(str.isdigit, numbers)):
        return False
    growing = list(dict.fromkeys(map(int, numbers)))
    return len(growing) > 2 and growing == sorted(growing)


def _is_unquoted(lines: Sequence[str], separator: str) -> bool:
    """Whether quotes stand in the lines, and each of them within words: a writer that quotes would have quoted these fields."""
    marked = [field.strip() for line in lines if '"' in line for field in line.split(separator) if '"' in field]
    return bool(marked) and all(" " in field and not field.startswith('"') for field in marked)


def _is_blank(line: str, separator: str) -> bool:
    """Whether a field of the line holds nothing but blanks or quotes; for a costly step that most files do not need."""
    fields = line.split(separator) if separator != " " else []
    return any(field and not field.strip(' \t"') for field in fields)


def _decimal_commas(names: list[str], rows: list[list[str]]) -> tuple[list[str], list[str]]:
    """Columns of numbers with decimal commas; only files with `;` write them. And what is to be said of 1.234.

    Where another column has decimal commas, the point in 1.234 stands between thousands; elsewhere it may be either.
    """
    rows = [[field.strip() for field in row] for row in rows]
    columns = {name: [row[place] for row in rows if place < len(row) and row[place] not in NOTHING] for place, name in enumerate(names)}
    found = [name for name, values in columns.items() if any("," in one for one in values) and _all(DECIMAL_COMMA, values)]
    points = {name: [one for one in values if "." in one] for name, values in columns.items() if _all(THOUSANDS, values)}
    points = {name: values for name, values in points.items() if values}
    if found or any(one.count(".") > 1 for values in points.values() for one in values):
        return [*found, *points], []
    return [], [
        f"numbers such as {values[0]} in {name} are read with a decimal point, not with one between thousands"
        for name, values in points.items()
    ]


def _is_commented_header(line: str, prefix: str, rows: list[str], separator: str) -> bool:
    """Whether the last comment line names the columns of the values that follow."""
    names, values = _fields(line.removeprefix(prefix).strip(), separator, True), _fields(rows[0], separator, True)
    return len(names) == len(values) > 1 and not any(map(_is_value, names)) and any(map(_is_value, values))


def _height(lines: Sequence[str], separator: str) -> int:
    """How many lines the first record takes: a quoted name may hold line breaks."""
    if separator in ("\t", "::", " ") or not lines or lines[0].count('"') % 2 == 0:
        return 1
    ends = (n for n in range(2, len(lines) + 1) if sum(line.count('"') for line in lines[:n]) % 2 == 0)
    return next(ends, 1)


def _all_quoted(line: str, separator: str) -> bool:
    return separator == "\t" and "\t" in line and all(re.fullmatch('".*"', field.strip()) for field in line.split("\t"))


def _fields(line: str, separator: str, quoted: bool) -> list[str]:
    if separator == " ":
        return line.split()
    if not quoted or len(separator) > 1:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return line.split(separator)


def _split(record: str, separator: str, quoted: bool, where: str, line: int) -> list[str]:
    """Fields of the first record.

    Raises:
        UserError: a carriage return stands within it.
    """
    if not quoted or len(separator) > 1 or separator == " ":
        return [re.sub('^"(.*)"$', r"\1", field.strip()) for field in _fields(record, separator, False)]
    try:
        return next(csv.reader([record], delimiter=separator, skipinitialspace=True), [])
    except csv.Error as error:
        got = "a carriage return within it" if "\r" in record else str(error)
        raise UserError(
            r"a header with line ends \n or \r\n", got, where=f"{where}, line {line}", hint="repair the line", code=Code.NO_HEADER
        ) from None


def _separator(rows: list[str], usual: str | None) -> str:
    """What separates the fields: of the separators that the lines have in equal numbers, that with most fields.

    A tab where the file's extension promises one; blanks only where nothing else separates.
    """
    if usual == "\t" and "\t" in rows[0]:
        return usual
    whole = [row for row in rows if row.count('"') % 2 == 0] or rows
    best, best_score = usual or ",", (False, 1, True)
    for separator in SEPARATORS:
        width = len(_fields(rows[0], separator, separator != "\t"))
        if width <= 1:
            continue
        same = [len(_fields(row, separator, separator != "\t")) == width for row in whole[1:]]
        score = (not same or sum(same) >= CONSISTENT * len(same), width, separator == usual)
        if score > best_score:
            best, best_score = separator, score
    if best_score[1] == 1:
        rare = [sign for sign in RARE_SEPARATORS if sign in rows[0]]
        widths = {sign: [len(row.split(sign)) for row in rows] for sign in rare} | {" ": [len(row.split()) for row in rows]}
        for sign, counts in widths.items():
            width, alike = (*Counter(counts[1:]).most_common(1), (0, 0))[0]
            if counts[0] > 1 and width - counts[0] in (0, 1) and alike >= CONSISTENT * (len(counts) - 1):  # R has one name fewer
                return sign
    return best


def _is_value(field: str) -> bool:
    return bool(NUMBER.match(field.strip()) or DATE.match(field.strip()))


def is_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first line names columns: it does where it says user_id, or text stands above numbers.

    It does not where it holds a number or a date, or where one of its fields comes again below it.
    """
    if any(NAME.match(field) for field in first):
        return True
    below = [[row[place].strip() for row in rows if place < len(row) and list(row) != list(first)] for place in range(len(first))]
    for field, values in zip(first, below):
        known = [value for value in values if value not in NOTHING]
        if field not in NOTHING and not _is_value(field) and known and all(NUMBER.match(value) for value in known):
            return True
    return not any(_is_value(field) or (field and field in values) for field, values in zip(first, below))


def _names(
    first: list[str], rows: list[list[str]], separator: str, header: bool | None, columns: Sequence[str] | None, where: str
) -> tuple[list[str], bool, bool, list[str]]:
    """Names of the columns, whether the first line is a header, whether the columns have names, and what is to be said.

    Raises:
        UserError: no column has a name, or as many names were given as the file has no columns.
    """
    layout = headerless_names(first, separator) if header is None else None
    found = is_header(first, rows) and layout is None if header is None else header
    if columns:
        if len(columns) != len(first):
            got = f"{len(columns)} ({', '.join(columns)})"
            hint = f"its first line is {separator.join(first)[:80]}"
            raise UserError(f"{len(first)} names", got, where=f"--columns, {where}", hint=hint, code=Code.BAD_OPTION)
        said = f"the first line ({', '.join(first)[:80]}) is a header, which --columns replaces"
        return unique(list(columns)), found, True, [said] if found and header is None else []
    if found:
        if not any(first):
            raise UserError(
                "a header line",
                repr(separator.join(first)[:40]),
                where=where,
                hint="name the columns in the first line",
                code=Code.NO_HEADER,
            )
        names = unique(first)
        renamed = [(old, new) for old, new in zip(first, names) if old not in ("", "row", new)]
        names, prefix = without_prefix(names)
        renamed = renamed if not prefix else []
        twice = [f"the header has {old} twice: the later one is {new}" for old, new in renamed]
        twice += [f"{prefix} before all names of columns is not read"] if prefix else []
        return names, True, True, twice
    if layout is not None:
        said = f"there is no header; the columns are read as {', '.join(layout)}"
        return layout, False, True, [said] if separator == "::" else []
    return [str(place + 1) for place in range(len(first))], False, False, ["there is no header; the columns are named by their place"]


def unique(names: list[str]) -> list[str]:
    """Column names with repeated and empty ones renamed (an exported index column has no name); `row` is ours."""
    seen = {"row": 1}
    out = []
    for position, name in enumerate(names):
        name = name or f"column_{position + 1}"
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return out


def headerless_names(fields: list[str], separator: str = ",") -> list[str] | None:
    """Column names of the layouts whose files have no header, recognised by their first row."""
    if separator == "::":
        return MOVIELENS.get(len(fields)) if fields[0].isdigit() else None
    if len(fields) == 5 and fields[3] in ("pv", "cart", "fav", "buy"):
        return ["user_id", "item_id", "category_id", "behavior", "timestamp"]
    if len(fields) == 5 and fields[4][-2:] in ("-0", "-1"):
        return ["impression_id", "user_id", "time", "history", "impressions"]
    if len(fields) == 8 and fields[5].startswith("http"):
        return ["news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities"]
    return None


def suggested_names(columns: Sequence[Sequence[str]], dates: Collection[int]) -> list[str]:
    """Names for the columns of a file without a header, as their values look: for the hint of an error.

    Args:
        columns: some values of each, none empty.
        dates: places of the columns that hold dates as text.
    """
    names = [f"column_{place}" for place in range(1, len(columns) + 1)]
    epochs = [place for pattern in (EPOCH, OLD_EPOCH) for place, values in enumerate(columns) if _all(pattern, values)]
    time = next(iter([*dates, *epochs]), None)
    free = [place for place, values in enumerate(columns) if place != time and values]
    ids = [place for place in free if not _all(FRACTION, columns[place])][:2]  # no coordinates
    for place, name in zip(ids, ("user_id", "item_id")):
        names[place] = name
    rest = [place for place in free if place not in ids]
    said = {
        "rating": [place for place in rest if _all(SMALL, columns[place]) and len(set(columns[place])) > 1],
        "type": [place for place in rest if _all(WORD, columns[place]) and len(set(columns[place])) <= FEW_TYPES],
        "timestamp": [] if time is None else [time],
    }
    for name, places in said.items():
        if places:
            names[places[0]] = name
    return names


def _all(pattern: re.Pattern[str], values: Sequence[str]) -> bool:
    return bool(values) and all(map(pattern.fullmatch, values))
