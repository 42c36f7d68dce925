"""Dates and times in every usual form are the same moments; what cannot be told apart is asked for."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from event_files import refused, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qurate.events.readers import read_events

FORMS = {
    "m/d/y": "%m/%d/%Y %H:%M:%S",
    "m/d/y pm": "%m/%d/%Y %I:%M:%S %p",
    "m/d/yy": "%m/%d/%y %H:%M:%S",
    "d.m.y": "%d.%m.%Y %H:%M:%S",
    "d-m-y": "%d-%m-%Y %H:%M:%S",
    "y/m/d": "%Y/%m/%d %H:%M:%S",
    "compact": "%Y%m%d%H%M%S",
    "logging": "%Y-%m-%d %H:%M:%S,000",
    "apache": "[%d/%b/%Y:%H:%M:%S +0000]",
    "ctime": "%a %b %d %H:%M:%S +0000 %Y",
    "month": "%b %d, %Y %I:%M:%S %p",
    "iso": "%Y-%m-%dT%H:%M:%SZ",
}


def written(form: str, moment: datetime) -> str:
    return format_datetime(moment) if form == "rfc 2822" else moment.strftime(FORMS[form])


def test_days_of_a_spreadsheet(tmp_path: Path) -> None:
    """1970 begins at day 25,569, and a quarter of a day is six hours."""
    path = write(tmp_path / "log.csv", "user_id,item_id,timestamp\nu,a,45678.25\nu,b,45679\n")
    log = read_events(path, time_form="excel")
    assert log.events.collect().sort("item_id")["timestamp"].to_list() == [
        datetime(2025, 1, 21, 6, tzinfo=UTC), datetime(2025, 1, 22, tzinfo=UTC),
    ]  # fmt: skip


@given(starts=st.lists(st.integers(0, 700_000_000), min_size=1, max_size=5), form=st.sampled_from([*FORMS, "rfc 2822"]))
@settings(max_examples=36, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_moments_in_every_form(tmp_path_factory: pytest.TempPathFactory, starts: list[int], form: str) -> None:
    moments = [datetime(2001, 1, 31, tzinfo=UTC), *(datetime(2001, 1, 1, tzinfo=UTC) + timedelta(seconds=s) for s in starts)]
    rows = "".join(f'u,i{n},"{written(form, moment)}"\n' for n, moment in enumerate(moments))
    log = read_events(write(tmp_path_factory.mktemp("log") / "log.csv", "user_id,item_id,timestamp\n" + rows))
    assert log.events.collect().sort("item_id")["timestamp"].to_list() == moments


def test_day_and_month_that_cannot_be_told_apart_are_asked_for(tmp_path):  # type: ignore[no-untyped-def]
    path = write(tmp_path / "log.csv", "user_id,item_id,timestamp\nu,a,01/06/2024\nu,b,02/06/2024\n")
    assert "--time-form D/M/Y or --time-form M/D/Y" in refused(path).typed
    for form, month in (("D/M/Y", 6), ("d.m.y", 6), ("M/D/Y", 1), ("%d/%m/%Y", 6)):
        assert read_events(path, time_form=form).events.collect()["timestamp"][0].month == month
    mixed = write(tmp_path / "mixed.csv", "user_id,item_id,timestamp\nu,a,13/06/2024\nu,b,06/13/2024\n")
    assert "one order of day and month" in str(refused(mixed))
    late = "".join(f"u,i{n},01/06/2024\n" for n in range(10_050)) + "u,j,13/06/2024\n"
    assert read_events(write(tmp_path / "late.csv", "user_id,item_id,timestamp\n" + late)).events.collect()["timestamp"][0].month == 6


def test_dots_mean_the_day_first_and_that_is_said(tmp_path):  # type: ignore[no-untyped-def]
    log = read_events(write(tmp_path / "log.csv", "user_id,item_id,timestamp\nu,a,01.06.2024\nu,b,02.06.2024\n"))
    assert log.events.collect()["timestamp"][0].month == 6 and any("day first" in note for note in log.notes)


@pytest.mark.parametrize(
    ("head", "row", "columns", "moment"),
    [
        ("year,month,day", "2009,4,1", "year+month+day", datetime(2009, 4, 1, tzinfo=UTC)),
        ("year,month,day,at", "2009,4,1,7:05", "year+month+day+at", datetime(2009, 4, 1, 7, 5, tzinfo=UTC)),
        ("d,m,y", "31,4,2009", "y+m+d", None),
        ("d,m,y", "30,4,2009", "d+m+y", datetime(2009, 4, 30, tzinfo=UTC)),
    ],
)
def test_parts_of_a_date_in_columns_of_their_own(tmp_path: Path, head: str, row: str, columns: str, moment: datetime | None) -> None:
    """A day that its month does not have is a bad row."""
    path = write(tmp_path / "log.csv", f"user_id,item_id,{head}\nu,a,{row}\nu,b,{row.replace('31', '29')}\n")
    events = read_events(path, map={"timestamp": columns}, max_bad=0.5).events.collect().sort("item_id")
    assert events.filter(item_id="a")["timestamp"].to_list() == ([] if moment is None else [moment])
