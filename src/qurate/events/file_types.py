"""The event type in the name of a file or folder: `views.csv` beside `purchases.csv`."""

import re
from pathlib import Path

import polars as pl

from qurate.events.places import short_names
from qurate.events.roles import Asked, Roles
from qurate.events.schema import STANDARD_TYPES

WORDS = {
    **{name: name for name in STANDARD_TYPES},
    "buy": "purchase",
    "order": "purchase",
    "transaction": "purchase",
    "sale": "purchase",
    "bought": "purchase",
    "addtocart": "cart",
    "pageview": "view",
    "play": "play",
    "listen": "listen",
    "read": "read",
    "save": "save",
    "bookmark": "bookmark",
    "favorite": "like",
    "favourite": "like",
    "review": "rating",
    "return": "return",
    "search": "search",
    "download": "download",
    "install": "install",
}
"""A word of a file's name, in the singular, and the type that it says."""


def type_in(name: str) -> str | None:
    """The type that a name says, None where it says none or two.

    >>> type_in("user_purchases_2024.csv")
    'purchase'
    """
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    said = {WORDS[one] for word in [*words, "".join(words)] for one in _singulars(word) if one in WORDS}
    return said.pop() if len(said) == 1 else None


def _singulars(word: str) -> list[str]:
    ends = [("ies", "y"), ("es", ""), ("s", ""), ("", "")]
    return [word.removesuffix(end) + put for end, put in ends if word.endswith(end)]


def name_by_file(files: dict[Path, Roles], asked: Asked) -> None:
    """Files that say by their names, and by nothing else, what happened: the name becomes the type, and a note says so.

    A single file is only offered its name: `views.csv` alone may well hold clicks.
    """
    silent = {path: roles for path, roles in files.items() if roles.says_nothing}
    said = {path: type_in(path.stem) or type_in(path.parent.name) for path in silent}
    if len(silent) > 1 and len(set(said.values()) - {None}) > 1 and None not in said.values():
        for (path, roles), called in zip(silent.items(), short_names(list(silent))):
            roles.exprs["type"] = pl.lit(said[path])
            roles.type_from = f"the name of the file: {said[path]}"
            roles.notes.append(f"{called} is read as events of type {said[path]}, by its name; --type {called}=TYPE says otherwise")
        return
    for path, roles in silent.items():
        offer = f"; its name says {said[path]}: --type {said[path]}" if said[path] else ""
        if len(files) > 1 and len(silent) < len(files):
            offer = offer or f"; --type {path.name}=TYPE says what they are"
        if offer:
            roles.notes.append(f"no column of {path.name} says what happened, so every row counts as click{offer}")
