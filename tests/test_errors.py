"""The codes of errors: one enumeration that agrees with the exception classes, the service and the contract."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import qurate
from qurate.errors import Code, MachineError, UserError
from qurate.serving.messages import HttpCode

SOURCES = sorted(Path(qurate.__file__).parent.rglob("*.py"))


def raised() -> Iterator[tuple[str, str, str]]:
    """(place, class, code) of every error that the sources raise with a code by name."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in ("UserError", "MachineError"):
                continue
            for keyword in node.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Attribute) and ast.unparse(keyword.value.value) == "Code":
                    yield f"{path.name}:{node.lineno}", node.func.id, keyword.value.attr


def test_the_class_of_an_error_and_its_code_agree_on_the_exit_code() -> None:
    found = list(raised())
    assert len(found) > 150
    wrong = [(place, name, code) for place, name, code in found if Code[code].exit_code != {"UserError": 2, "MachineError": 1}[name]]
    assert not wrong


def test_every_code_is_raised_somewhere_and_is_named_once() -> None:
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "errors.py")
    unused = [code.name for code in Code if f"Code.{code.name}" not in text and code.http_status is None]
    assert not unused
    assert len({str(code) for code in Code}) == len(list(Code))


def test_the_service_s_codes_are_those_with_a_status() -> None:
    assert set(get_args(HttpCode)) == {str(code) for code in Code if code.http_status is not None}
    contract = "invalid_json invalid_field too_large too_deep unauthorised forbidden not_found conflict"
    assert {*contract.split(), "rate_limited", "overloaded", "storage_full", "not_ready"} == set(get_args(HttpCode))


def test_an_error_takes_its_code_by_keyword_only() -> None:
    with pytest.raises(TypeError):
        UserError("a", "b", "c")  # type: ignore[call-arg, misc]
    assert MachineError("a", "b", code=Code.IO).exit_code == 1
    assert UserError("a", "b", code=Code.BAD_K).to_dict()["code"] == "bad_k"


@pytest.mark.parametrize(
    ("typed", "python"),
    [
        ("--algorithm", "algorithm"),
        ("a dataset or --env", "a dataset or env"),
        ("--set lr", "lr"),
        ("say --encoding gbk", 'say encoding="gbk"'),
        ("say --device cpu, or leave the option out", 'say device="cpu", or leave the option out'),
        ("leave --encoding out: the file is UTF-8", "leave encoding out: the file is UTF-8"),
        ("say --map log.csv:user_id=who --map item_id=sku", 'say map={"log.csv:user_id": "who", "item_id": "sku"}'),
        ("say --type views.csv=view, please", 'say type={"views.csv": "view"}, please'),
        ("such as --columns a,b or --time-form D/M/Y", 'such as columns=["a", "b"] or time_form="D/M/Y"'),
        ("repair them, or raise --max-bad", "repair them, or raise max_bad"),
        ("choose another --data", "choose another --data"),
        ("my--map.csv and --mapped", "my--map.csv and --mapped"),
    ],
)
def test_from_python_an_error_names_arguments_and_on_the_command_line_options(typed: str, python: str) -> None:
    error = UserError("x", "y", hint=typed, code=Code.BAD_OPTION)
    assert str(error).endswith(f"; {python}")
    assert error.typed.endswith(f"; {typed}") and error.to_dict()["message"] == error.typed
