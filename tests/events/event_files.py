"""Logs as files, and the one error that a bad one must end in."""

from pathlib import Path

import pytest

from qurate.errors import UserError
from qurate.events.readers import read_events

T0 = 1_700_000_000
HEADER = "user_id,item_id,type,timestamp,value\n"
GOOD = [{"user_id": f"u{i % 7}", "item_id": f"i{i % 5}", "type": "click", "timestamp": T0 + i, "value": float(i)} for i in range(400)]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lines(rows: list[dict[str, object]]) -> str:
    return HEADER + "".join(",".join(str(v) for v in row.values()) + "\n" for row in rows)


def refused(path: object, **options: object) -> UserError:
    with pytest.raises(UserError) as caught:
        read_events(path, **options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return caught.value
