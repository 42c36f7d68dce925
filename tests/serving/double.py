"""A model whose scores are known: an item is worth its clicks in the history, then its place in the catalogue."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qurate.choosing.seen import NOTHING_EXCLUDED, SeenRule
from qurate.decision import Decision, DecisionItem
from qurate.events.schema import OTHER
from qurate.serving.deployments import DecisionRequest
from qurate.serving.stores.base import EventRow
from qurate.serving.windows import UserWindow

TYPES = ("click", "purchase", "shown")


class KnownModel:
    """Epsilon-greedy by (clicks in the history, lower item number); propensities are conditional at each position.

    `asked`: the requests in the order in which they were decided. `during`: called in the middle of a decision.
    """

    version = "known-1"

    def __init__(
        self,
        items: int = 5,
        epsilon: float = 0.0,
        window: int = 6,
        shown_in_history: bool = True,
        past: dict[str, UserWindow] | None = None,
        types: tuple[str, ...] = TYPES,
        exclude: SeenRule = NOTHING_EXCLUDED,
    ) -> None:
        self.item_ids = tuple(f"i{n}" for n in range(1, items + 1))
        self.event_types = None if OTHER in types else types
        self.epsilon, self.window, self.shown_in_history, self.past = epsilon, window, shown_in_history, past or {}
        self.exclude = exclude
        self.asked: list[DecisionRequest] = []
        self.batches: list[int] = []
        self.broken_for: Callable[[DecisionRequest], bool] = lambda request: False
        self.during: Callable[[], Any] = lambda: None

    counts_events = False

    def count(self, events: Sequence[EventRow]) -> None:
        raise AssertionError("it counts nothing")

    def known(self, item_ids: Sequence[str]) -> list[str]:
        return [item for item in item_ids if item in self.item_ids]

    def user_history(self, user_id: str) -> UserWindow | None:
        return self.past.get(user_id)

    def decide(self, requests: Sequence[DecisionRequest], rng: np.random.Generator) -> list[Decision]:
        if any(self.broken_for(request) for request in requests):
            raise RuntimeError("weights are gone")
        self.batches.append(len(requests))
        self.during()
        return [self.decide_one(request, rng) for request in requests]

    def decide_one(self, request: DecisionRequest, rng: np.random.Generator) -> Decision:
        self.asked.append(request)
        names = list(self.item_ids) if request.candidates is None else self.known(request.candidates)
        left = [name for name in names if name not in request.exclude]
        left = [name for name in left if name not in request.seen] or left
        if not left:
            reason = "empty_catalogue" if not self.item_ids else "all_masked" if names else "no_candidates"
            return Decision("", None, [], "known", self.version, reason)
        window = request.window
        clicks = [item for item, kind in zip(window.items, window.types) if kind == "click"]
        score = {name: clicks.count(name) - int(name[1:]) / 1000 for name in left}
        items = []
        while left and len(items) < request.k:
            best = max(left, key=score.__getitem__)
            explored = rng.random() < self.epsilon
            chosen = left[int(rng.integers(len(left)))] if explored else best
            propensity = self.epsilon / len(left) + (1 - self.epsilon) * (chosen == best)
            items.append(DecisionItem(chosen, score[chosen], propensity, "explore" if explored else "q"))
            left.remove(chosen)
        stranger = not window.items and request.context is None
        return Decision("", None, items, "known", self.version, "unknown_user" if stranger else None)
