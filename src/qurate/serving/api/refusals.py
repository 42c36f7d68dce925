"""What a parser says of a malformed body, as errors of ours: what was expected, what stands there, and where."""

import json
import re
from typing import Any

import msgspec

from qurate.errors import Code, UserError, nearest
from qurate.serving.messages import MAX_ID_BYTES, Event

SHOWN = 60
"""So many characters of a value are shown."""
TIME = "a time with a zone such as 2026-01-02T03:04:05Z, or milliseconds since 1970"
_PLACE = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_MISSING = object()


def json_error(error: json.JSONDecodeError) -> UserError:
    """The error for text that is no JSON: the place, and what stands there."""
    rest = error.doc[error.pos : error.pos + 20].splitlines() if error.pos < len(error.doc) else []
    got = "an empty body" if not error.doc.strip() else shown(rest[0]) if rest and rest[0] else "its end"
    why = error.msg.removesuffix(" at").removesuffix(" starting")
    return UserError("JSON", f"{got} in line {error.lineno}, column {error.colno} ({why})", where="$", code=Code.INVALID_JSON)


def field_error(error: Exception, message_type: type[msgspec.Struct], text: str | bytes, root: str = "$") -> UserError:
    """msgspec's message as an error of ours, with the path from the body's root.

    Args:
        error: of the decoder.
        message_type: that was decoded.
        text: what was decoded, JSON of bounded size and depth.
        root: the path to it.
    """
    match = _PLACE.fullmatch(str(error))
    what, path = (match["what"], match["path"] or "$") if match else (str(error), "$")
    where = root + path[1:]
    if unknown := re.match(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        known = Event if "events" in where else message_type
        hint = nearest(unknown[1][:SHOWN], known.__struct_fields__)
        return UserError("a field of the message", repr(unknown[1][:SHOWN]), where=where, hint=hint, code=Code.INVALID_FIELD)
    if missing := re.match(r"Object missing required field `(.*)`", what):
        return UserError(f"the field {missing[1]}", "none", where=f"{where}.{missing[1]}", code=Code.INVALID_FIELD)
    value = _value_at(text, path)
    if "`key` in" in str(error) and isinstance(value, dict):
        value = next((name for name in value if not 0 < len(name) <= MAX_ID_BYTES), _MISSING)
    if too_many := re.match(r"Expected `(?:array|object)` of length <= (\d+)", what):
        got = f"{len(value):,}" if isinstance(value, list | dict) else "more"
        return UserError(f"at most {int(too_many[1]):,} entries", got, where=where, code=Code.TOO_LARGE)
    if "RFC3339" in what or "`datetime`" in what:
        return UserError(TIME, _described(value), where=where, code=Code.INVALID_FIELD)
    if pair := re.match(r"Expected (.*), got (`.*)", what):
        plain = value is not _MISSING and isinstance(value, str | int | float)
        got = f"{pair[2]} {_described(value)}" if plain else _described(value) if isinstance(value, list | dict) else pair[2]
        return UserError(pair[1], got, where=where, code=Code.INVALID_FIELD)
    if expected := re.match(r"Expected (.*)", what):
        return UserError(expected[1], _described(value), where=where, code=Code.INVALID_FIELD)
    return UserError("a value in range and form", f"{_described(value)} ({what[:200]})", where=where, code=Code.INVALID_FIELD)


def shown(value: Any) -> str:
    """A value as JSON, a long one cut; half a surrogate pair, which cannot be sent, as its escape."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _described(value: Any) -> str:
    if value is _MISSING:
        return "another value"
    if isinstance(value, str):
        return f"{shown(value)} of {len(value):,} characters" if not value or len(value) > SHOWN else shown(value)
    if isinstance(value, list | dict):
        return f"a list of {len(value):,}" if isinstance(value, list) else f"an object of {len(value):,}"
    return shown(value)


def _value_at(text: str | bytes, path: str) -> Any:
    """What stands at msgspec's path; `_MISSING` where a name in it has signs of paths, or is not said."""
    steps = list(_STEP.finditer(path))
    if path != "$" + "".join(step[0] for step in steps):
        return _MISSING
    value = json.loads(text)
    for step in steps:
        try:
            value = value[step[1] if step[1] is not None else int(step[2])]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return value
