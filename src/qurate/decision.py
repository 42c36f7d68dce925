"""One answer of a policy, the same struct for command line, Python and HTTP, and the history it was made from."""

import secrets
import time
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from qurate.facts import shortened
from qurate.types import FloatArray

Source = Literal["q", "explore", "rule", "fallback"]
"""Why an item stands where it stands: its Q-value (`q`), exploration, a ranking without Q-values such as popularity or item-kNN
(`rule`), or a fallback."""

Degraded = Literal["unknown_user", "no_model", "no_candidates", "empty_catalogue", "all_masked", "store_unavailable"]


def new_ids(n: int) -> list[str]:
    """Ids of 32 hexadecimal digits: 12 of the time in milliseconds, 20 random ones by one call of the system.

    They grow, as those of UUID version 7 (RFC 9562): an index of a log is then written at its end, not in a page of its own for each.
    """
    now, digits = f"{time.time_ns() // 1_000_000:012x}", secrets.token_hex(10 * n)
    return [now + digits[i : i + 20] for i in range(0, 20 * n, 20)]


class HistoryRows(NamedTuple):
    """The n last rows of one customer, oldest first; `times` never decrease."""

    items: NDArray[np.int64]  # [n] item indices, 0 = no item or one the model does not know
    types: NDArray[np.int64]  # [n] type indices, 1..M
    times: NDArray[np.int64]  # [n] microseconds UTC
    values: FloatArray  # [n], 0 where the event had no value


class Worth(msgspec.Struct, frozen=True):
    """What one reward component of an item is expected to bring, in reward units; `now` is null where the network does not separate it
    from `later` (single-head form)."""

    now: float | None
    later: float


class DecisionItem(msgspec.Struct, frozen=True):
    """One item of an answer.

    `propensity` is its conditional probability at its position given the items above it, after all masks, in (0, 1].
    `now`, `later` and `components` are there only where an explanation was asked for; `now` is null as in `Worth`.
    """

    item_id: str
    score: float
    propensity: float
    source: Source
    now: float | UnsetType | None = UNSET
    later: float | UnsetType = UNSET
    components: dict[str, Worth] | UnsetType = UNSET


class Decision(msgspec.Struct, frozen=True):
    """One answer: the items in order, who answered, and why it fell short (`degraded`, null when it did not).

    >>> decision = qurate.train(log, algorithm="popularity").recommend(user="nobody", k=2)
    >>> decision.degraded, len(decision.items)
    ('unknown_user', 2)
    """

    decision_id: str
    user_id: str | None
    items: list[DecisionItem]
    policy: str
    model_version: str
    degraded: Degraded | None = None

    def __repr__(self) -> str:
        shown = shortened([one.item_id for one in self.items], 5) or "nothing"
        degraded = f", degraded {self.degraded}" if self.degraded else ""
        return f"Decision(user {self.user_id!r}: {shown}; policy {self.policy}, model {self.model_version}{degraded})"
