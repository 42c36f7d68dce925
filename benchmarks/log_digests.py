"""Digests of what the reader makes of the real logs: compared before and after a change of the reader, they must not differ.

    python benchmarks/log_digests.py DATA OUT.json     # DATA: the folder of real logs

Every log is read as it is (Parquet); some also as CSV, TSV and JSON Lines written from it, because those have parsers of their own.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import polars as pl

from qurate.errors import QurateError
from qurate.events.features import feature_matrix
from qurate.events.readers import read_events
from qurate.events.schema import EventLog

AS_TEXT = {"movielens_small/ratings": ("csv", "tsv", "jsonl"), "movielens_small/movies": ("csv",), "otto_mini/events": ("jsonl",)}
"""Logs written as text too; of each the first TEXT_ROWS rows."""
TEXT_ROWS = 200_000


def _digest(table: pl.LazyFrame | None) -> str | None:
    """First 16 digits of the sha256 over a table's rows in their order."""
    if table is None:
        return None
    frame = table.collect(engine="streaming")
    total = hashlib.sha256(repr(frame.schema).encode())
    for start in range(0, frame.height, 100_000):
        total.update(frame.slice(start, 100_000).write_json().encode())
    return total.hexdigest()[:16]


def _of_log(log: EventLog) -> dict[str, object]:
    """Digests of the log's tables and of the features made of its items and users."""
    out: dict[str, object] = {"kind": log.kind, "layout": log.layout, "unit": log.time_unit, "rows": log.rows, "bad": log.rejects.height}
    out |= {name: _digest(getattr(log, name)) for name in ("events", "decisions", "items", "users")}
    for name in ("items", "users"):
        table = getattr(log, name)
        if table is not None:
            matrix, spec = feature_matrix(table.collect(engine="streaming"))
            out[f"{name}_features"] = hashlib.sha256(matrix.tobytes() + json.dumps(spec, default=str).encode()).hexdigest()[:16]
    return out


def _written(data: Path, folder: Path) -> list[Path]:
    """The logs of AS_TEXT as text files."""
    paths = []
    for name, forms in AS_TEXT.items():
        frame = pl.read_parquet(data / f"{name}.parquet").head(TEXT_ROWS)
        for form in forms:
            path = folder / name.replace("/", f"-{form}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path = path.with_suffix(f".{form}")
            if form == "jsonl":
                frame.write_ndjson(path)
            else:
                frame.write_csv(path, separator="\t" if form == "tsv" else ",")
            paths.append(path)
    return paths


def main(data: Path, out: Path) -> None:
    """Writes {log: digests} to `out`; a log that is refused has its error line."""
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        logs = [*sorted(data.glob("*/*.parquet")), *_written(data, Path(folder))]
        for path in logs:
            name = f"{path.parent.name}/{path.name}"
            try:
                results[name] = _of_log(read_events(path))
            except QurateError as error:
                results[name] = str(error).replace(str(path.parent), "")
            print(name, results[name], flush=True)
    out.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
