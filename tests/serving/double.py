"""A model whose scores are known: an item is worth its clicks in the history, then its place in the catalogue."""

from typing import Any

import numpy as np

from qurate.decision import Decision, DecisionItem, HistoryRows
from qurate.events.vocabulary import Vocabulary

TYPES = ("click", "purchase", "shown")


class KnownModel:
    """Epsilon-greedy by (clicks in the history, lower item number); propensities are conditional at each position."""

    version = "known-1"

    def __init__(
        self,
        items: int = 5,
        epsilon: float = 0.0,
        window: int = 6,
        shown_in_history: bool = True,
        past: dict[str, HistoryRows] | None = None,
        types: tuple[str, ...] = TYPES,
    ) -> None:
        self.vocabulary = Vocabulary(tuple(f"i{n}" for n in range(1, items + 1)), types)
        self.epsilon, self.window, self.shown_in_history, self.past = epsilon, window, shown_in_history, past or {}
        self.histories: list[HistoryRows] = []
        self.clocks: list[int] = []
        self.contexts: list[Any] = []
        self.broken = False

    def user_history(self, user_id: str) -> HistoryRows | None:
        return self.past.get(user_id)

    def decide(
        self,
        user_id: str,
        history: HistoryRows,
        clock_us: int,
        k: int,
        candidates: list[str] | None,
        exclude: tuple[str, ...],
        context: dict[str, Any] | None,
        explain: bool,
        rng: np.random.Generator,
    ) -> Decision:
        if self.broken:
            raise RuntimeError("weights are gone")
        self.histories.append(history)
        self.clocks.append(clock_us)
        self.contexts.append(context)
        names = list(self.vocabulary.items) if candidates is None else [c for c in candidates if c in self.vocabulary.items]
        left = [name for name in names if name not in exclude]
        if not left:
            reason = "empty_catalogue" if not self.vocabulary.items else "all_masked" if names else "no_candidates"
            return Decision("", None, [], "known", self.version, reason)
        clicks = np.bincount(history.items[history.types == 1], minlength=len(self.vocabulary.items) + 1)
        score = {name: float(clicks[int(name[1:])]) - int(name[1:]) / 1000 for name in left}
        items = []
        while left and len(items) < k:
            best = max(left, key=score.__getitem__)
            chosen = left[int(rng.integers(len(left)))] if rng.random() < self.epsilon else best
            propensity = self.epsilon / len(left) + (1 - self.epsilon) * (chosen == best)
            items.append(DecisionItem(chosen, score[chosen], propensity, "q" if chosen == best else "explore"))
            left.remove(chosen)
        stranger = not len(history.items) and context is None
        return Decision("", None, items, "known", self.version, "unknown_user" if stranger else None)
