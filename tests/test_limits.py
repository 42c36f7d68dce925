"""The limits of CONTRIBUTING.md on every Python file: lines of a file and of a function, and positional parameters."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("src", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))
FILE_LINES, FUNCTION_LINES, POSITIONAL = 400, 60, 8


def broken_limits(source: str) -> list[str]:
    """What in a file's source is over a limit: one text each, with the line where it begins."""
    lines = len(source.splitlines())
    found = [f"{lines} lines in a file, at most {FILE_LINES}"] if lines > FILE_LINES else []
    tree = ast.parse(source)
    methods = {id(one) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for one in node.body}
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
        own = id(node) in methods and not static  # self or cls is not counted
        positional = len(node.args.posonlyargs) + len(node.args.args) - own
        if length > FUNCTION_LINES:
            found.append(f"line {node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES}")
        if positional > POSITIONAL:
            found.append(f"line {node.lineno}: {node.name} has {positional} positional parameters, at most {POSITIONAL}")
    return found


def test_every_file_keeps_the_limits() -> None:
    broken = [f"{path.relative_to(ROOT)}: {text}" for path in FILES for text in broken_limits(path.read_text(encoding="utf-8"))]
    assert len(FILES) > 100 and broken == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\n" * 400, []),
        ("x = 1\n" * 401, ["401 lines in a file, at most 400"]),
        ("def f():\n" + "    x = 1\n" * 59, []),
        ("\ndef f():\n" + "    x = 1\n" * 60, ["line 2: f has 61 lines, at most 60"]),
        ("def f(a, b, c, d, e, g, h, i, *, j, k): ...\n", []),
        ("async def f(a, b, /, c, d, e, g, h, i, j): ...\n", ["line 1: f has 9 positional parameters, at most 8"]),
        ("class A:\n    def f(self, a, b, c, d, e, g, h, i): ...\n", []),
        ("class A:\n    def f(self, a, b, c, d, e, g, h, i, j): ...\n", ["line 2: f has 9 positional parameters, at most 8"]),
        ("class A:\n    @staticmethod\n    def f(a, b, c, d, e, g, h, i, j): ...\n", ["line 3: f has 9 positional parameters, at most 8"]),
    ],
)
def test_the_limits_themselves(source: str, expected: list[str]) -> None:
    assert broken_limits(source) == expected
