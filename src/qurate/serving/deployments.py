"""What the service asks of a model: answers to requests in raw ids."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from qurate.choosing.seen import SeenRule
from qurate.decision import Decision
from qurate.serving.stores.base import EventRow
from qurate.serving.windows import UserWindow


class DecisionRequest(msgspec.Struct, frozen=True):
    """What one decision is made from.

    Attributes:
        user_id: whose.
        window: the customer's last rows.
        clock_us: when the decision is made, microseconds; after everything in the window.
        k: items wanted.
        candidates: distinct item ids to choose from; None = all that are available.
        exclude: distinct item ids that may not be shown.
        seen: distinct item ids that are not shown again while anything else is left.
        context: user features by name.
        features: by name, what is known of each of `candidates` at this moment, in their order.
        explain: also what each item is worth now and later.
    """

    user_id: str
    window: UserWindow
    clock_us: int
    k: int
    candidates: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    context: dict[str, Any] | None = None
    features: dict[str, tuple[float | None, ...]] | None = None
    explain: bool = False


class Deployment(Protocol):
    """A model together with the rule by which it is served (greedy, epsilon-greedy)."""

    @property
    def version(self) -> str:
        """Of the model."""
        ...

    @property
    def window(self) -> int:
        """Rows of history a state holds."""
        ...

    @property
    def event_types(self) -> tuple[str, ...] | None:
        """Types whose rows stand in the history; None: all."""
        ...

    @property
    def shown_in_history(self) -> bool:
        """Whether a decision that shows one item adds a row of type `shown` to the history."""
        ...

    @property
    def exclude(self) -> SeenRule:
        """Which of a customer's own items are not shown again."""
        ...

    @property
    def item_ids(self) -> Sequence[str]:
        """The catalogue."""
        ...

    def known(self, item_ids: Sequence[str]) -> list[str]:
        """Those of the ids that are in the catalogue, in their order."""
        ...

    def user_history(self, user_id: str) -> UserWindow | None:
        """All rows that the training data has of the customer; None for an unknown one."""
        ...

    @property
    def counts_events(self) -> bool:
        """Whether what everybody does now decides what is shown: the service then passes every stored event to `count`."""
        ...

    def shortlists(self, requests: Sequence[DecisionRequest]) -> list[tuple[str, ...]]:
        """The items among which requests without candidates choose at their times; asked only where `counts_events`."""
        ...

    def count(self, events: Sequence[EventRow]) -> None:
        """Counts events, each once, in the order of their arrival; called from one thread at a time, perhaps during `decide`."""
        ...

    def decide(self, requests: Sequence[DecisionRequest], rng: np.random.Generator) -> list[Decision]:
        """The answers with their exact propensities, each as if it were alone, and what each lacked; the service gives them ids
        of its own."""
        ...
