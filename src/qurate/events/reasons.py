"""Why a row is set aside: one enumeration, its texts for people, and the check of `validate` that counts it."""

from enum import StrEnum

import polars as pl


class Reason(StrEnum):
    """A reason. Its value is the code; `text` has a place for what it is about (a column, the parser's words)."""

    check: str
    text: str

    def __new__(cls, code: str, check: str, text: str) -> "Reason":
        member = str.__new__(cls, code)
        member._value_, member.check, member.text = code, check, text
        return member

    BROKEN = "broken", "readable rows", "{}"
    EXTRA_FIELDS = "extra_fields", "readable rows", "more fields than the header"
    UNREAD_LIST = "unread_list", "readable rows", "{}"
    MISSING = "missing", "missing ids", "missing {}"
    MISSING_SHOWN = "missing_shown", "missing ids", "missing item_id in the shown list"
    NO_TIME = "no_time", "timestamps", "missing timestamp"
    UNREADABLE_TIME = "unreadable_time", "timestamps", "unreadable timestamp"
    TIME_1970 = "time_1970", "timestamps", "timestamp in 1970 (never set, or a wrong unit)"
    TIME_2200 = "time_2200", "timestamps", "timestamp after 2199 (a wrong unit)"
    FUTURE = "future", "no future", "timestamp in the future"
    NO_NUMBER = "no_number", "numbers", "{} is not a number"
    NOT_FINITE = "not_finite", "numbers", "{} is NaN or infinite"
    TOO_LARGE = "too_large", "numbers", "{} is beyond float32"
    NOT_UTF8 = "not_utf8", "text", "{} is not UTF-8"
    PROPENSITY = "propensity", "propensities", "propensity outside (0, 1]"
    PROPENSITY_COUNT = "propensity_count", "propensities", "as many propensities as items shown are needed"
    MISSING_CANDIDATE = "missing_candidate", "missing ids", "missing item_id in the list of candidates"
    CANDIDATE_COUNT = "candidate_count", "candidates", "{}"
    CANDIDATE_NUMBER = "candidate_number", "candidates", "{} holds what is no number"
    DUPLICATE = "duplicate", "duplicates", "duplicate of an earlier row"

    def of(self, about: str = "") -> str:
        """The code with what it is about, as the reader's column of problems holds it."""
        return f"{self.value}{MARK}{about}"


REASONS: dict[str, Reason] = {reason.value: reason for reason in Reason}

MARK = "\x1f"
"""Stands between a code and what it is about; no column name or parser's message holds it."""


def said(problems: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Codes and texts of `Reason.of` values, both String [n]."""
    frame = pl.select(pl.lit(problems).alias("problem")).with_columns(pl.col("problem").str.splitn(MARK, 2).alias("parts"))
    code = frame["parts"].struct.field("field_0")
    known = frame["problem"].unique(maintain_order=True).to_list()
    texts = {one: REASONS[one.partition(MARK)[0]].text.format(one.partition(MARK)[2]) for one in known}
    return code, problems.replace_strict(texts, return_dtype=pl.String) if known else problems.cast(pl.String)
