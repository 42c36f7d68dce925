"""Text ids to indices and back: item 0 and type 0 are padding, real ones start at 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.errors import Code, UserError
from qurate.events.schema import OTHER

SMALL = 2_000
"""Below this many ids a dictionary is faster than a hash join."""

Ids = Sequence[str | None] | pl.Series


@dataclass(frozen=True)
class Vocabulary:
    """Item ids 1..N in catalogue order and type names 1..M.

    Raises:
        UserError: an id or a type name stands twice, or there are more than 255 types.
    """

    items: tuple[str, ...]
    types: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, values in (("item ids", self.items), ("type names", self.types)):
            if len(set(values)) != len(values):
                seen: set[str] = set()
                twice = next(v for v in values if v in seen or seen.add(v))  # type: ignore[func-returns-value]
                raise UserError(
                    f"{name} that differ", f"{twice!r} twice", where="vocabulary", hint="give each item one row", code=Code.DUPLICATE_ID
                )
        if len(self.types) > 255:
            raise UserError(
                "at most 255 event types",
                str(len(self.types)),
                where="vocabulary",
                hint="merge rare types before ingest",
                code=Code.TOO_MANY_TYPES,
            )

    @property
    def n_items(self) -> int:
        """N: real items, padding not counted."""
        return len(self.items)

    @property
    def n_types(self) -> int:
        """M: event types, padding not counted."""
        return len(self.types)

    @cached_property
    def _item_of(self) -> dict[str, int]:
        return {name: i + 1 for i, name in enumerate(self.items)}

    @cached_property
    def _type_of(self) -> dict[str, int]:
        return {name: i + 1 for i, name in enumerate(self.types)}

    @cached_property
    def _item_enum(self) -> pl.Enum:
        return pl.Enum(self.items)

    def item_index(self, ids: Ids) -> NDArray[np.int32]:
        """Indices int32 [n] of item ids; 0 for unknown ids and None."""
        if len(ids) < SMALL or not self.items:
            look = self._item_of
            return np.fromiter(map(look.get, ids, repeat(0)), np.int32, len(ids))  # None is in no dictionary of names
        return _enum_index(ids, self._item_enum).astype(np.int32)

    def type_index(self, names: Ids) -> NDArray[np.uint8]:
        """Indices uint8 [n] of event types; 0 for None and for unknown names, which are OTHER where training had such a type."""
        look = self._type_of
        other = look.get(OTHER, 0)
        if len(names) < SMALL or not self.types:
            return np.fromiter((look.get(i, other) if i is not None else 0 for i in names), np.uint8, len(names))
        series = names if isinstance(names, pl.Series) else pl.Series(names, dtype=pl.String)
        index = _enum_index(series, pl.Enum(self.types)).astype(np.uint8)
        index[(index == 0) & series.is_not_null().to_numpy()] = other
        return index

    def to_json(self) -> dict[str, Any]:
        """JSON-able: {"items": [...], "types": [...]}."""
        return {"items": list(self.items), "types": list(self.types)}

    @classmethod
    def from_json(cls, data: Any) -> "Vocabulary":
        """The inverse of `to_json`.

        Raises:
            UserError: not an object with two lists of strings.
        """
        lists = [data.get(key) for key in ("items", "types")] if isinstance(data, dict) else [None]
        if not all(isinstance(values, list) and all(isinstance(v, str) for v in values) for values in lists):
            raise UserError(
                '{"items": [text], "types": [text]}',
                type(data).__name__,
                where="vocabulary.json",
                hint="the file is damaged",
                code=Code.BAD_VOCABULARY,
            )
        return cls(tuple(data["items"]), tuple(data["types"]))


def _enum_index(ids: Ids, enum: pl.Enum) -> NDArray[np.int64]:
    series = ids if isinstance(ids, pl.Series) else pl.Series(ids, dtype=pl.String)
    physical = series.cast(enum, strict=False).to_physical().cast(pl.Int64)
    return (physical + 1).fill_null(0).to_numpy()
