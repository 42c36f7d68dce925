"""A JSON file that is one object with the records somewhere inside: how to write them one a line, for the hint of an error."""

import json
import shlex
from pathlib import Path
from typing import Any

import msgspec

LARGEST = 1 << 28
"""A larger file is not looked into: it is read whole."""


def records_inside(plain: Path, shown: Path, beside: frozenset[str] = frozenset()) -> tuple[str, str] | None:
    """What a file that is one JSON object holds, and the command that writes its records one a line; None for any other file.

    Args:
        plain: what is read. shown: the file as the user knows it.
        beside: keys beside a list of records that make the object a row by itself, such as its user.
    """
    if plain.stat().st_size > LARGEST:
        return None
    try:
        record = msgspec.json.decode(plain.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(record, dict) or not record or beside & set(record):
        return None
    source, target = (json.dumps(str(path), ensure_ascii=False) for path in (shown, shown.with_suffix(".records.jsonl")))
    if {"columns", "data"} <= set(record) and isinstance(record["columns"], list):
        said, records = 'a table as pandas writes it with orient="split"', 'dict(zip(d["columns"], row)) for row in d["data"]'
    elif all(isinstance(value, dict) for value in record.values()) and len({tuple(value) for value in record.values()}) == 1:
        said, records = (
            'a table as pandas writes it with orient="columns"',
            "dict(zip(d, row)) for row in zip(*(c.values() for c in d.values()))",
        )
    elif (key := next((key for key, value in record.items() if _are_records(value)), None)) is not None:
        said, records = f"one object that holds them in {key}", f"r for r in d[{json.dumps(key, ensure_ascii=False)}]"
    else:
        return None
    made, _, each = records.partition(" for ")
    code = f'import json; d = json.load(open({source})); open({target}, "w").writelines(json.dumps({made}) + chr(10) for {each})'
    return said, f"write them one a line: python -c {shlex.quote(code)}"


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(entry, dict) for entry in value)
