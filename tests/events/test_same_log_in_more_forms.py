"""One log in every container, with times, ids and features in every form, and with a decisions table of its own: the same dataset, bit
for bit."""

import gzip
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from test_same_log_in_every_form import EVENTS, QUICK, T0, Row, csv, jsonl, parquet, same

Log = list[tuple[int, int, bool, int]]
Write = Callable[[Path], dict[str, Any]]
HEAD = ("user_id", "item_id", "type", "timestamp")
ALWAYS = [(0, 0, True, 1), (0, 1, False, 1), (1, 2, True, 1)]


def table(log: Log) -> list[Row]:
    return [
        {"user_id": f"ü{u}", "item_id": f"i{i}", "type": "purchase" if bought else "view", "timestamp": T0 + 60 * n}
        for n, (u, i, bought, _) in enumerate([*log, *ALWAYS])
    ]


def text(rows: list[Row], sign: str = ",", header: bool = True, end: str = "\n") -> str:
    lines = [sign.join(map(str, row.values())) for row in rows]
    return end.join([*([sign.join(HEAD)] if header else []), *lines, ""])


def file(name: str, content: str | bytes, **options: Any) -> Write:
    def write(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return {"path": folder / name, **options}

    return write


@QUICK
@given(EVENTS)
def test_containers(log: Log) -> None:
    rows = table(log)
    plain, one_line = text(rows), "".join(json.dumps(row) + "\n" for row in rows)

    def archive(folder: Path) -> dict[str, Any]:
        with zipfile.ZipFile(folder / "log.zip", "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("inside/log.csv", plain)
        return {"path": folder / "log.zip"}

    def parts(folder: Path) -> dict[str, Any]:
        for place, part in enumerate((rows[:3], rows[3:])):
            (folder / "log" / f"part{place}").mkdir(parents=True)
            (folder / "log" / f"part{place}" / "0.csv").write_text(text(part))
        return {"path": folder / "log"}

    def partitions(folder: Path) -> dict[str, Any]:
        for kind in ("view", "purchase"):
            (folder / "log" / f"type={kind}").mkdir(parents=True)
            mine = [{name: value for name, value in row.items() if name != "type"} for row in rows if row["type"] == kind]
            pl.DataFrame(mine).write_csv(folder / "log" / f"type={kind}" / "0.csv")
        return {"path": folder / "log"}

    same(
        {
            **{f"separator {sign!r}": file("log.txt", text(rows, sign)) for sign in (",", ";", "\t", "|", "::", "   ")},
            **{f"in {name}": file("log.csv", plain.encode(name), encoding=name) for name in ("latin-1", "utf-16", "gbk")},
            "line ends of Windows, with a mark": file("log.csv", b"\xef\xbb\xbf" + text(rows, end="\r\n").encode()),
            "comments": file("log.csv", f"# exported\n{plain}# end\n"),
            "no header": file("log.dat", text(rows, ";", header=False), columns=list(HEAD)),
            "no header, by place": file("log.tsv", text(rows, "\t", header=False), map={name: str(n) for n, name in enumerate(HEAD, 1)}),
            "quoted": file("log.csv", "\n".join('"' + line.replace(",", '","') + '"' for line in plain.splitlines())),
            "gzip": file("log.csv.gz", gzip.compress(plain.encode())),
            "JSON Lines": file("log.ndjson", one_line),
            "JSON Lines, gzip": file("log.jsonl.gz", gzip.compress(one_line.encode())),
            "a JSON array": file("log.json", json.dumps(rows, indent=1)),
            "Parquet": parquet(rows),
            "zip": archive,
            "subfolders": parts,
            "partitions": partitions,
        },
        {"view": 1.0, "purchase": 5.0},
    )


TIMES = {
    "ISO 8601": "%Y-%m-%dT%H:%M:%SZ",
    "a blank and no zone": "%Y-%m-%d %H:%M:%S",
    "another zone": "%Y-%m-%dT%H:%M:%S+00:00",
    "M/D/Y PM": "%m/%d/%Y %I:%M:%S %p",
    "D.M.Y": "%d.%m.%Y %H:%M:%S",
    "Y/M/D": "%Y/%m/%d %H:%M:%S",
    "together": "%Y%m%d%H%M%S",
    "comma milliseconds": "%Y-%m-%d %H:%M:%S,000",
    "RFC 2822": "%a, %d %b %Y %H:%M:%S +0000",
    "Apache": "[%d/%b/%Y:%H:%M:%S +0000]",
    "Chinese": "%Y年%m月%d日 %H:%M:%S",
}


@QUICK
@given(EVENTS, st.integers(1, 2_000_000))
def test_times(log: Log, step: int) -> None:
    """The last row is of a 20th, by which day and month are told apart."""
    moments = [datetime.fromtimestamp(T0 + step * n, UTC) for n in range(len(log) + len(ALWAYS))]
    moments.append(moments[-1].replace(year=moments[-1].year + 1, month=6, day=20))
    events = [*log, *ALWAYS, ALWAYS[1]]

    def written(time: Callable[[datetime], Any], name: str = "timestamp") -> list[Row]:
        return [{"user_id": f"u{u}", "item_id": f"i{i}", name: time(at)} for (u, i, _, _), at in zip(events, moments)]

    def seconds(at: datetime) -> int:
        return int(at.timestamp())

    two = [{**row, "day": at.strftime("%Y-%m-%d"), "clock": at.strftime("%H:%M:%S")} for row, at in zip(written(seconds, "n"), moments)]
    same(
        {
            **{name: csv(written(lambda at, form=form: at.strftime(form))) for name, form in TIMES.items()},  # type: ignore[misc]
            **{unit: csv(written(lambda at, n=n: seconds(at) * n)) for unit, n in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))},  # type: ignore[misc]
            "floats": jsonl(written(lambda at: float(seconds(at)))),
            "a column of times": parquet(written(lambda at: at)),
            "two columns": csv(two, map={"timestamp": "day+clock"}),
        }
    )


@QUICK
@given(EVENTS)
def test_ids(log: Log) -> None:
    def written(form: Callable[[int], Any]) -> list[Row]:
        return [{"user_id": form(u), "item_id": form(10 + i), "timestamp": T0 + 60 * n} for n, (u, i, _, _) in enumerate([*log, *ALWAYS])]

    same(
        {
            "text": csv(written(str)),
            "3.0": csv(written(lambda one: f"{one}.0")),
            "3.00": csv(written(lambda one: f"{one}.00")),
            "blanks around": csv(written(lambda one: f"  {one} ")),
            "single quotes": file("log.csv", "\n".join(["user_id,item_id,timestamp", *(
                f"'{row['user_id']}','{row['item_id']}',{row['timestamp']}" for row in written(str))])),
            "blanks after the separator": file("log.csv", "\n".join(", ".join(map(str, row)) for row in [
                ("user_id", "item_id", "timestamp"), *(row.values() for row in written(str))])),
            "numbers": parquet(written(int)),
            "floats": parquet(written(float)),
            "decimals": parquet(written(lambda one: Decimal(one).quantize(Decimal("0.01")))),
            "JSON numbers": jsonl(written(int)),
        }
    )  # fmt: skip


@QUICK
@given(
    st.lists(st.tuples(st.sets(st.sampled_from("abcde"), min_size=2), st.integers(1, 9_999), st.integers(1, 28)), min_size=6, max_size=9)
)
def test_features(items: list[tuple[set[str], int, int]]) -> None:
    """Genres, prices of cents and days of items, in a table beside the log."""
    items = [*items, ({"a", "b"}, 123_450, 3), ({"b", "c"}, 7, 9)]  # one price has thousands
    log = [{"user_id": f"u{n % 3}", "item_id": f"i{n % len(items)}", "timestamp": T0 + 60 * n} for n in range(4 * len(items))]

    def beside(genres: Callable[[list[str]], Any], price: Callable[[float], Any], day: str, form: str = "csv") -> Write:
        def written(at: datetime) -> str:
            return at.strftime(day)

        rows = [
            {
                "item_id": f"i{n}",
                "genres": genres(sorted(one)),
                "price": price(cents / 100),
                "released": written(datetime(2020, 1 + n % 5, at)),
            }
            for n, (one, cents, at) in enumerate(items)
        ]

        def write(folder: Path) -> dict[str, Any]:
            {"csv": csv, "jsonl": jsonl, "parquet": parquet}[form](rows)(folder)
            (folder / f"log.{form}").rename(folder / f"items.{form}")
            return csv(log)(folder)

        return write

    def euro(price: float) -> str:
        return f"{price:,.2f}".translate({ord(","): ".", ord("."): ","})

    same(
        {
            "lists, numbers": beside(list, float, "%Y-%m-%d", "parquet"),
            "JSON Lines": beside(list, float, "%Y-%m-%d", "jsonl"),
            "JSON text, dollars": beside(json.dumps, lambda price: f"${price:,.2f}", "%Y-%m-%d"),
            "Python, euros": beside(str, lambda price: f"{euro(price)} €", "%d.%m.%Y"),
            "bars, yuan": beside("|".join, lambda price: f"￥{price:.2f}", "%Y/%m/%d"),
            "bars, a code": beside("|".join, lambda price: f"{price:,.2f} USD", "%Y-%m-%dT00:00:00Z"),
        }
    )


@QUICK
@given(EVENTS)
def test_decisions_tables(log: Log) -> None:
    asked = [
        {"decision_id": f"d{n}", "user_id": f"u{u}", "timestamp": T0 + 60 * n, "shown": [f"i{i}", f"i{i + 1}"], "propensity": [0.5, 0.25]}
        for n, (u, i, _, _) in enumerate([*log, *ALWAYS])
    ]
    answers = [
        {"user_id": one["user_id"], "item_id": one["shown"][n % 2], "type": "click", "timestamp": T0 + 60 * n + 5, "decision_id": f"d{n}"}
        for n, one in enumerate(asked)
        if n % 2 or n == 0
    ]
    bars = [{**one, "shown": "|".join(one["shown"]), "propensity": "0.5|0.25"} for one in asked]
    names = {"decision_id": "rec", "user_id": "who", "timestamp": "at", "shown": "slate", "propensity": "probs"}

    def two(decisions: Write, name: str, **options: Any) -> Write:
        def write(folder: Path) -> dict[str, Any]:
            given = decisions(folder)["path"]
            given.rename(folder / name)
            beside = {} if name.startswith("decisions.") else {"decisions": folder / name}
            return {**csv(answers)(folder), **beside, **options}

        return write

    renamed = [{names[name]: value for name, value in one.items()} for one in bars]
    same(
        {
            "JSON Lines": two(jsonl(asked), "asked.jsonl"),
            "beside the log": two(jsonl(asked), "decisions.jsonl"),
            "Parquet": two(parquet(asked), "asked.parquet"),
            "bars in CSV": two(csv(bars), "asked.csv"),
            "other names": two(csv(renamed), "asked.csv", map={f"asked.csv:{name}": column for name, column in names.items()}),
        }
    )
