"""docs/api.md from the docstrings of the public names: python docs/make_api.py. A test compares the page."""

import inspect
import re
from pathlib import Path
from typing import Any

import qurate

PAGE = Path(__file__).parent / "api.md"
HEAD = """# Python

Made from the docstrings by `python docs/make_api.py`. The road is `read_events` -> `build_dataset` -> `train` -> `evaluate` ->
`Model.recommend`; wherever a log or a table is expected, a file, a DataFrame of polars or one of pandas will do (pandas is no
dependency). Errors are `UserError` (a mistake in what was given) or `MachineError`; their text names what was
expected, what came, where, and what to do. Whole scripts for a shop, a live platform, news, films and advertisements, and a
notebook, are in [examples/](../examples).

In the examples `log` is this table, and everything else is there after `import qurate`:

```python
import polars as pl

log = pl.DataFrame(
    {
        "user_id": [f"u{i % 6}" for i in range(240)],
        "item_id": [f"i{i % 7}" for i in range(240)],
        "type": ["purchase" if i % 5 == 0 else "click" for i in range(240)],
        "timestamp": [1_717_200_000 + 600 * i for i in range(240)],
    }
)
```

"""


def signature(name: str, thing: Any) -> str:
    """The call with names and defaults, without annotations: the docstring says what they are."""
    try:
        found = inspect.signature(thing)
    except ValueError:
        return name
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values() if p.name != "self"]
    return f"{name}{found.replace(parameters=plain, return_annotation=inspect.Signature.empty)}"


def shown(doc: str) -> str:
    """A docstring as Markdown: the examples and the sections of arguments and errors as code."""
    text, _, examples = inspect.cleandoc(doc).partition("\n>>> ")
    text = re.sub(r"^(Args|Attributes|Raises|Returns):$", r"**\1**", text.strip(), flags=re.MULTILINE)
    lines = []
    for line in text.split("\n"):
        argument = re.match(r"^ {4}(\S[^:]*): (.*)$", line)
        if argument:
            lines.append(f"* `{argument[1]}`: {argument[2]}")
        else:
            lines.append(re.sub(r"^ {4,}", "  ", line))
    body = re.sub(r"(\*\*\w+\*\*)\n", r"\1\n\n", "\n".join(lines))
    return body + (f"\n\n```python\n>>> {examples.strip()}\n```" if examples else "")


def page() -> str:
    """The whole page."""
    parts = [HEAD.rstrip("\n")]
    for name in qurate.__all__:
        if name.startswith("_"):
            continue
        thing = getattr(qurate, name)
        call = signature(name, thing) if inspect.isfunction(thing) or name in ("Client", "Report") else name
        parts.append(f"## {name}\n\n```python\n{call}\n```\n\n{shown(thing.__doc__)}")
        if inspect.isclass(thing) and not issubclass(thing, Exception):
            for method, code in vars(thing).items():
                function = code.__func__ if isinstance(code, classmethod) else code
                if not method.startswith("_") and inspect.isfunction(function):
                    call = signature(f"{name}.{method}", getattr(thing, method))
                    parts.append(f"### {name}.{method}\n\n```python\n{call}\n```\n\n{shown(function.__doc__ or '')}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
