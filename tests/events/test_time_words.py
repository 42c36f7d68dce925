"""Times as Oracle, Java, .NET, Go, Excel in China and others write them: each is the same moment; what cannot be read says why."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from event_files import refused, write

from qurate.events.readers import read_events

START = datetime(2024, 6, 1, 9, 5, 7, tzinfo=UTC)
MOMENTS = [START + timedelta(days=n, hours=4 * (n % 3)) for n in range(20)]


def half(moment: datetime, before: str, after: str) -> str:
    return before if moment.hour < 12 else after


FORMS = {
    "Oracle": lambda m: f"{m:%d-%b-%y %I.%M.%S.000000 %p}".upper(),
    "DB2": lambda m: f"{m:%Y-%m-%d-%H.%M.%S.000000}",
    ".NET": lambda m: f"/Date({int(m.timestamp())}000)/",
    ".NET with an offset": lambda m: f"/Date({int(m.timestamp())}000+0200)/",
    "Java": lambda m: f"{m + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+02:00[Europe/Berlin]",
    "Go": lambda m: f"{m:%Y-%m-%d %H:%M:%S}.000000001 +0000 UTC",
    "Go's clock": lambda m: f"{m + timedelta(hours=2):%Y-%m-%d %H:%M:%S} +0200 CEST m=+0.01",
    "Takeout": lambda m: f'"{m:%b %d, %Y, %I:%M:%S}\u202f{m:%p} UTC"',
    "Chinese": lambda m: f"{m:%Y/%m/%d} {half(m, '上午', '下午')}{m:%I:%M:%S}",
    "Korean": lambda m: f"{m:%Y. %m. %d.} {half(m, '오전', '오후')} {m:%I:%M:%S}",
    "Japanese": lambda m: f"{m:%Y/%m/%d %H時%M分%S秒}",
    "Korean signs": lambda m: f"{m.year}년 {m.month}월 {m.day}일 {m.hour}시 {m.minute}분 {m.second}초",
    "Japanese from 0 to 11": lambda m: f"{m:%Y年%m月%d日} {half(m, '午前', '午後')}{m.hour % 12}:{m:%M:%S}",
    "parts of a Chinese day": lambda m: f"{m:%Y-%m-%d} {dict(zip((9, 13, 17), ('上午', '中午', '晚上')))[m.hour]}{m:%I:%M:%S}",
    "small letters": lambda m: f"{m:%Y-%m-%dt%H:%M:%Sz}",
    "a colon before milliseconds": lambda m: f"{m:%Y-%m-%d %H:%M:%S}:000",
    "Apache": lambda m: f"{m:%d/%b/%Y:%H:%M:%S} +0000",
    "thousands": lambda m: f'"{int(m.timestamp()):,}"',
}


def log(path: Path, texts: list[str]) -> Path:
    rows = "".join(f"u{n % 3},i{n % 5},view,{text}\n" for n, text in enumerate(texts))
    return write(path / "log.csv", "user_id,item_id,type,timestamp\n" + rows)


@pytest.mark.parametrize("form", FORMS)
def test_the_moment_is_the_same_in_every_form(form: str, tmp_path: Path) -> None:
    read = read_events(log(tmp_path, [FORMS[form](m) for m in MOMENTS]))
    assert read.events.collect().sort("row")["timestamp"].to_list() == MOMENTS and read.bad_rows == 0


def test_digits_written_together_keep_their_milliseconds(tmp_path: Path) -> None:
    read = read_events(log(tmp_path, [f"{m:%Y%m%d%H%M%S}{100 + n}" for n, m in enumerate(MOMENTS)]))
    assert read.events.collect().sort("row")["timestamp"].to_list() == [m + timedelta(milliseconds=100 + n) for n, m in enumerate(MOMENTS)]


@pytest.mark.parametrize("seconds", [True, False])
def test_a_moment_in_columns_of_numbers(seconds: bool, tmp_path: Path) -> None:
    names = ["year", "month", "day", "hour", "minute", *(["second"] if seconds else [])]
    moments = [m.replace(second=m.second if seconds else 0) for m in MOMENTS]
    rows = "".join(f"u,i{n % 5},view,{','.join(str(getattr(m, name)) for name in names)}\n" for n, m in enumerate(moments))
    path = write(tmp_path / "log.csv", f"user_id,item_id,type,{','.join(names)}\n{rows}")
    read = read_events(path, map={"timestamp": "+".join(names)})
    assert read.events.collect().sort("row")["timestamp"].to_list() == moments


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2024-06-01 09:05:07 Europe/Berlin", "write +02:00 in its place"),
        ("Sat Jun 01 09:05:07 CEST 2024", "write +02:00 in its place"),
        ("09:05:07", "join the column that has it, --map timestamp=DAY+timestamp"),
    ],
)
def test_what_is_missing_from_a_time_is_said(text: str, said: str, tmp_path: Path) -> None:
    assert said in refused(log(tmp_path, [text] * 5)).typed


@pytest.mark.parametrize(("unit", "seconds"), [("minutes", 60), ("hours", 3_600), ("days", 86_400)])
def test_minutes_hours_and_days_since_1970_are_named_and_read(unit: str, seconds: int, tmp_path: Path) -> None:
    numbers = [int(moment.timestamp()) // seconds for moment in MOMENTS]
    path = log(tmp_path, [str(number) for number in numbers])
    assert f"say --time-form {unit} if they are {unit} since 1970, such as 2024-06-1" in refused(path).typed
    times = read_events(path, time_form=unit).events.collect().sort("row")["timestamp"].dt.epoch("s")
    assert times.to_list() == [number * seconds for number in numbers]


def test_an_evening_s_twelve_is_not_guessed(tmp_path: Path) -> None:
    texts = [f"2024-06-01 晚上{9 if n else 12}:05" for n in range(20)]
    assert "1 of 20" in refused(log(tmp_path, texts)).got


@pytest.mark.parametrize(("text", "hour"), [("午前0:05", 0), ("午後0:05", 12), ("上午12:05", 0), ("下午12:05", 12), ("中午12:05", 12)])
def test_the_hour_that_begins_a_half_day(text: str, hour: int, tmp_path: Path) -> None:
    times = read_events(log(tmp_path, [f"2024-06-{day:02d} {text}" for day in range(1, 20)])).events.collect()["timestamp"]
    assert set(times.dt.hour()) == {hour} and set(times.dt.minute()) == {5}
