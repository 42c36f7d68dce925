"""Names of columns that say what came of what was shown, and lists of 0 and 1 that are as long as those of the items."""

import polars as pl
import pytest

from qurate.events.answer_names import answer_of, fits


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("clicked", "click"),
        ("is_booking", "purchase"),
        ("purchased_items", "purchase"),
        ("orders", None),
        ("install", None),
        ("flag", None),
    ],
)
def test_a_name_says_an_answer_by_itself_or_beside_another_word(column: str, kind: str | None) -> None:
    """`orders` alone may be how many there were."""
    assert answer_of(column) == kind


@pytest.mark.parametrize(("as_long", "holds"), [(3, True), (2, False)])
def test_most_lists_of_answers_are_as_long_as_those_of_the_items(as_long: int, holds: bool) -> None:
    taken = [[1, 0]] * as_long + [[1, 0, 1]] * (4 - as_long)
    sample = pl.DataFrame({"shown": [["a", "b"]] * 4, "seen": taken})
    assert fits(dict(sample.schema), "seen", pl.col("shown"), sample) == holds
