"""What some programs write into a time besides its digits: rewritten to what `time_forms` reads, where a sample has it."""

import polars as pl

BEFORE_NOON, AFTER_NOON = "上午|午前|오전|凌晨|清晨|早上", "下午|午後|오후"
THOUSANDS = r"^\d{1,3}(,\d{3}){3,5}$"
"""A number since 1970 with commas between its thousands."""

REWRITES: tuple[tuple[str, str], ...] = (
    (r"[\x{a0}\x{2009}\x{202f}]", " "),  # blanks that do not break, of Google's and Apple's programs
    (r"^/Date\((-?\d+)(?:[+-]\d{4})?\)/$", "$1"),  # .NET
    (r"(\d(?:Z|[+-]\d{2}:?\d{2}))\[[\w/+-]+\]$", "$1"),  # Java: the zone's name after its offset
    (r"( [+-]\d{4}) (?:[A-Z]{3,5}|[+-]\d{4})(?: m=\S+)?$", "$1"),  # Go
    (r"^(\d{4}-\d{2}-\d{2})t(\d\S*)z$", "${1}T${2}Z"),  # RFC 3339 in small letters
    (r"([ T]\d{1,2}:\d{2}:\d{2}):(\d{1,6})(\D|$)", "$1.$2$3"),  # milliseconds after a colon
    (r"(\d[ T-]+)(\d{1,2})\.(\d{2})\.(\d{2})(\D|$)", "$1$2:$3:$4$5"),  # a clock with dots: Oracle, DB2
    (r"^(\d{4}-\d{2}-\d{2})-(\d{2}:)", "${1}T${2}"),  # DB2
    (r"^(\d{4})\. ?(\d{1,2})\. ?(\d{1,2})\.", "$1-$2-$3"),  # Korean
    (r"([ T])(\d{1,2})[時时點点시] ?(\d{2})[分분](?: ?(\d{2})[秒초])?$", "$1$2:$3:${4}"),
    (r"(\d:\d{2}):$", "$1"),  # of the line above, where no seconds follow
    (rf"(?:{BEFORE_NOON}) *(\d[\d:.]*)", "$1 AM"),
    (r"晚上 *(\d:|0\d|1[01])", "下午$1"),  # what an evening's 12 is, noon or midnight, nobody can tell
    (r"中午 *(0?1|12)", "下午$1"),
    (rf"(?:{AFTER_NOON}) *(\d[\d:.]*)", "$1 PM"),
)
"""Pattern and what replaces it, one after the other."""

CLOCK_ONLY = r"^\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?$"
ZONE_NAME = r" (?:[A-Z]{3,4}|[A-Z][a-z]+/[A-Z]\w+)(?: \d{4})?$"


def rewritten(raw: pl.Expr, known: pl.Series) -> tuple[pl.Expr, pl.Series]:
    """A column of times and some of its values, rewritten by those of REWRITES that the values have.

    Args:
        raw: text.
        known: values of it, none null.
    """
    if len(known) and known.str.contains(THOUSANDS).all():
        return raw.str.replace_all(",", ""), known.str.replace_all(",", "")
    for pattern, new in REWRITES:
        if known.str.contains(pattern).any():
            raw, known = raw.str.replace_all(pattern, new), known.str.replace_all(pattern, new)
    return raw, known


def hint_for(known: pl.Series, column: str) -> str:
    """What helps with times in no known form.

    Args:
        known: values, none null, at least one.
        column: their name.
    """
    if known.str.contains(CLOCK_ONLY).all():
        return f"they have no day: join the column that has it, --map timestamp=DAY+{column}"
    if known.str.contains(ZONE_NAME).all():
        return "a zone is read by its offset, not by its name: write +02:00 in its place, or leave it out"
    return "say the form with --time-form, such as --time-form '%d.%m.%Y %H:%M'"
