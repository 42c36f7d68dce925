"""Facts about an object as a small HTML table, which notebooks show in place of its `repr`."""

import html
import re
from collections.abc import Mapping

LONGEST = 200


def facts_table(title: str, facts: Mapping[str, object]) -> str:
    """A table of names and values under a title. Everything is escaped and cut, because ids and names come from data.

    >>> facts_table("Dataset", {"users": 1200, "path": "<b>"})
    '<table><caption>Dataset</caption><tr><th>users</th><td>1,200</td></tr><tr><th>path</th><td>&lt;b&gt;</td></tr></table>'
    """
    rows = "".join(f"<tr><th>{_cell(name)}</th><td>{_cell(value)}</td></tr>" for name, value in facts.items() if value not in (None, ""))
    return f"<table><caption>{_cell(title)}</caption>{rows}</table>"


def shortened(names: list[str], most: int) -> str:
    """Some names, and how many more there are.

    >>> shortened(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)
    return html.escape(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…", quote=True)
