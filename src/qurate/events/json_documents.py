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
    orient = "split" if {"columns", "data"} <= set(record) and isinstance(record["columns"], list) else "columns"
    columns = all(isinstance(value, dict) for value in record.values()) and len({tuple(value) for value in record.values()}) == 1
    if orient == "split" or columns:
        read = f'pandas.read_json({source}, orient="{orient}", dtype=False, convert_dates=False)'
        code = f'import pandas; {read}.to_json({target}, orient="records", lines=True)'
        return f'a table that pandas wrote with orient="{orient}"', _python(code)
    key = next((key for key, value in record.items() if _are_records(value)), None)
    if key is None:
        return None
    inside = f"json.load(open({source}))[{json.dumps(key, ensure_ascii=False)}]"
    code = f'import json; open({target}, "w").writelines(json.dumps(r) + chr(10) for r in {inside})'
    return f"one object that holds them in {key}", _python(code)


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(entry, dict) for entry in value)


def _python(code: str) -> str:
    return f"write them one a line: python -c {shlex.quote(code)}"
