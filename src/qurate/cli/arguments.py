"""How the command line reads what was typed: times, shares, lists, and the errors of the parser."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qurate.errors import Code, UserError, nearest

GLOBAL_FLAGS = ("--json", "--quiet")
GLOBAL_VALUES = ("--seed", "--threads", "--device")


def duration(text: str, where: str) -> float:
    """Seconds of a text such as "90s", "10m" or "2h"; see `parse_duration`."""
    from qurate.mdp.dataset import parse_duration

    return parse_duration(text, where) / 1e6


def share(text: str, where: str) -> float:
    """A share in [0, 1] of "1%" or "0.01".

    Raises:
        UserError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text.strip())
    value = float(match[1]) / (100.0 if match[2] else 1.0) if match else 2.0
    if value > 1.0:
        raise UserError(
            "a share between 0 and 1, or 0% and 100%", repr(text), where=where, hint="write for example 1% or 0.01", code=Code.BAD_SHARE
        )
    return value


def pairs(items: Iterable[str], where: str) -> dict[str, str]:
    """`{"K": "V"}` of ["K=V", "L=W,M=X"].

    Raises:
        UserError: a part without "=", an empty name, or a name given twice.
    """
    out: dict[str, str] = {}
    for part in (part for item in items for part in item.split(",") if part):
        name, equals, value = part.partition("=")
        if not equals or not name or not value:
            raise UserError("NAME=VALUE", repr(part), where=where, hint=f"write for example {where} name=value", code=Code.BAD_PAIR)
        if name in out:
            raise UserError(f"{name} once", "it twice", where=where, hint="leave one of them out", code=Code.DUPLICATE_NAME)
        out[name] = value
    return out


def json_object(text: str, where: str) -> dict[str, Any]:
    """The object that an option's text is.

    Raises:
        UserError: it is none.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError("a JSON object", f"{text[:60]!r} ({error})", where=where, code=Code.BAD_OPTIONS) from None
    if not isinstance(found, dict):
        raise UserError("a JSON object", repr(text[:60]), where=where, hint='such as {"price": [9.5, 12]}', code=Code.BAD_OPTIONS)
    return found


def ids(items: Iterable[str]) -> list[str]:
    """The ids of a repeated, comma-separated option, in order."""
    return [part for item in items for part in item.split(",") if part]


def arrange(args: Sequence[str]) -> list[str]:
    """Global options to the front, where the parser wants them; `--map A=B C=D` becomes `--map A=B --map C=D`.

    Raises:
        UserError: a global option without its value.
    """
    front: list[str] = []
    rest: list[str] = []
    position, repeat = 0, ""
    while position < len(args):
        arg = args[position]
        if arg == "--":
            return [*front, *rest, *args[position:]]
        if arg in GLOBAL_FLAGS or arg.startswith(tuple(f"{name}=" for name in GLOBAL_VALUES)):
            front.append(arg)
        elif arg in GLOBAL_VALUES:
            if position + 1 == len(args):
                raise UserError(f"a value after {arg}", "nothing", where="qurate", hint="see qurate --help", code=Code.MISSING_VALUE)
            front += args[position : position + 2]
            position += 1
        elif arg == "--order" and (position + 1 == len(args) or args[position + 1].startswith("-") or Path(args[position + 1]).exists()):
            rest.append("--order=")  # the file's own order
        elif repeat and "=" in arg and not arg.startswith("-") and rest[-2] == repeat:
            rest += [repeat, arg]
        else:
            rest.append(arg)
        repeat = arg if arg in ("--map", "--set", "--type") else repeat
        position += 1
    return front + rest


def usage_error(error: Any) -> UserError:
    """A parser's complaint in our words, with the nearest option."""
    ctx = getattr(error, "ctx", None)
    where = ctx.command_path if ctx else "qurate"
    hint = f"see {where} --help"
    name = getattr(error, "option_name", None)
    if name and error.message.endswith("requires an argument."):
        return UserError(f"a value after {name}", "nothing", where=where, hint=hint, code=Code.MISSING_VALUE)
    if name:
        known = [o for p in ctx.command.params for o in p.opts] if ctx else []
        if name not in (*known, *GLOBAL_VALUES):
            return UserError(
                "a known option",
                name,
                where=where,
                hint=f"{nearest(name, [*known, *GLOBAL_FLAGS, *GLOBAL_VALUES])} ({hint})",
                code=Code.UNKNOWN_OPTION,
            )
    param = getattr(error, "param", None)
    if param is not None and not error.message:
        option = param.opts[0].startswith("-")
        return UserError(param.opts[0] if option else str(param.metavar), "nothing", where=where, hint=hint, code=Code.MISSING_OPTION)
    return UserError("a valid command line", repr(error.format_message().rstrip(".")), where=where, hint=hint, code=Code.BAD_OPTIONS)


def types(items: Iterable[str]) -> dict[str, str]:
    """`--type NAME` and `--type FILE=NAME`: file ("" for all) -> type.

    Raises:
        UserError: an empty name, or a file twice.
    """
    out: dict[str, str] = {}
    for part in items:
        file, _, name = part.rpartition("=")
        if not name:
            raise UserError("NAME or FILE=NAME", repr(part), where="--type", hint="write for example --type purchase", code=Code.BAD_PAIR)
        if file in out:
            raise UserError("one type a file", "two", where=f"--type {part}", hint="leave one of them out", code=Code.DUPLICATE_NAME)
        out[file] = name
    return out


def one_of(dataset: Path | None, env: str | None) -> None:
    if (dataset is None) == (env is None):
        got = "neither" if dataset is None else "both"
        raise UserError("DATASET or --env ID", got, where="the command line", hint="give one of them", code=Code.BAD_OPTIONS)


def known_command(args: Sequence[str], names: Sequence[str]) -> None:
    """Checks the first word.

    Raises:
        UserError: it is not a command; the nearest one is named.
    """
    word = command_of(args)
    if word.startswith("-"):
        return  # another option: the parser knows
    if word and word not in names:
        raise UserError("a command", repr(word), where="qurate", hint=nearest(word, names), code=Code.UNKNOWN_COMMAND)


def command_of(args: Sequence[str]) -> str:
    """The first word that is no global option, "" where there is none."""
    position = 0
    while position < len(args) and args[position].startswith((*GLOBAL_FLAGS, *GLOBAL_VALUES)):
        position += 2 if args[position] in GLOBAL_VALUES else 1
    return args[position] if position < len(args) else ""
