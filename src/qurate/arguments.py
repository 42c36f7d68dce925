"""What a caller from Python gives, by its kind: a wrong one is one line that names the argument, as on the command line."""

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any

from qurate.errors import Code, UserError, whole_number

SEEDS = 2**63
"""Above all seeds: torch takes no larger ones."""


def check_kind(value: object, kinds: type | UnionType, name: str, expected: str) -> None:
    """Nothing where `value` is of these kinds, or None, which stands for a default.

    Raises:
        UserError: it is of another kind.
    """
    if value is not None and not isinstance(value, kinds):
        raise UserError(expected, f"{value!r:.60}", where=name, code=Code.BAD_ARGUMENT)


def check_flag(value: object, name: str) -> None:
    """Nothing where `value` is True, False or None: the text "no" would count as on.

    Raises:
        UserError: it is of another kind.
    """
    check_kind(value, bool, name, "True or False")


def checked_seed(value: object) -> int:
    """A seed as an int of Python's own; numpy's are taken too.

    Raises:
        UserError: it is none.
    """
    try:
        return whole_number(value, "--seed", 0, Code.BAD_SEED, high=SEEDS - 1)
    except UserError:
        raise UserError("a seed of 0 or more, below 2**63", f"{value!r:.60}", where="--seed", code=Code.BAD_SEED) from None


def check_words(value: object, name: str, example: str) -> None:
    """Nothing where `value` is several texts, or None; of one text alone each letter would be one of them.

    Raises:
        UserError: it is anything else; `example` shows how to write it.
    """
    if value is None:
        return
    if isinstance(value, str | bytes) or not isinstance(value, Iterable) or not all(isinstance(word, str) for word in value):
        raise UserError("a list of words", f"{value!r:.60}", where=name, hint=f"write {example}", code=Code.BAD_ARGUMENT)


def check_mapping(value: object, name: str, example: str) -> None:
    """Nothing where `value` is a mapping of texts to texts, or None.

    Raises:
        UserError: it is anything else; `example` shows how to write it.
    """
    texts: Any = value
    if value is not None and not (isinstance(value, Mapping) and all(isinstance(one, str) for pair in texts.items() for one in pair)):
        raise UserError("a mapping of texts", f"{value!r:.60}", where=name, hint=f"write {example}", code=Code.BAD_ARGUMENT)
