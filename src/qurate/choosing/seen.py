"""Which items of a customer's own history are not shown again: `seen`, `purchased`, event types, perhaps within a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qurate.arguments import check_words
from qurate.choosing.merchandising import contains
from qurate.errors import Code, UserError
from qurate.mdp.dataset import parse_duration
from qurate.types import NEVER, EventArrays, FloatArray, IntArray, Observation, Policy, Propensities, State

SEEN, PURCHASED, NONE = "seen", "purchased", "none"
"""Every event type; the type purchase; no type."""

PURCHASE = "purchase"
REPEATS = 0.1
"""Share of a log's purchases that are repeats, above which what was bought is shown again by default."""
SELDOM, EVENTS = 0.002, 1_000
"""Share of choices that repeat an earlier one, up to which nothing seen is shown again by default; a log of fewer choices tells nothing."""


@dataclass(frozen=True)
class SeenRule:
    """Items with an event of certain types are not shown again.

    Attributes:
        text: as it was written, for notes.
        within: event type (`seen`: every one) -> seconds for which it counts; infinity = for good.
    """

    text: str
    within: dict[str, float]

    @property
    def types(self) -> list[str] | None:
        """The event types that count; None: all."""
        return None if SEEN in self.within else list(self.within)

    def seconds(self, types: Sequence[str]) -> FloatArray:
        """float32 [M + 1]: how long an event of each type counts, -1 where it does not; entry 0 is padding."""
        return np.array([-1.0, *map(self._seconds_of, types)], np.float32)

    def _seconds_of(self, kind: str) -> float:
        return max(self.within.get(SEEN, -1.0), self.within.get(kind, -1.0))

    def closed_until(self, kind: str, time_us: int) -> int | None:
        """Until when an event of type `kind` at `time_us` keeps its item from being shown again, microseconds, inclusive.

        NEVER = for good, None = events of this type do not count.
        """
        seconds = self._seconds_of(kind)
        if seconds < 0:
            return None
        return NEVER if seconds == np.inf else time_us + int(seconds * 1e6)

    def items(self, state: State, types: Sequence[str]) -> IntArray:
        """int64 [B, L]: the items of the history window that are not shown again, 0 elsewhere; for `contains`."""
        age = np.cumsum(state.history_gaps[:, ::-1], axis=1)[:, ::-1]
        return np.where(age <= self.seconds(types)[state.history_types], state.history_items, 0)

    def rows(self, items: IntArray, types: IntArray, age_s: NDArray[np.float64], names: Sequence[str]) -> IntArray:
        """The distinct items among history rows [n] of these ages (seconds) that are not shown again."""
        found = np.unique(items[age_s <= self.seconds(names)[types]])
        return found[found > 0]


def parse_exclude(parts: Sequence[str], types: Sequence[str]) -> tuple[list[str], SeenRule | None]:
    """Item ids, and the rule where one of the parts is `seen`, `purchased`, `none` or an event type, perhaps with `:30d`.

    Args:
        parts: as typed. types: event types that the model knows; a word that is neither is an item id.

    Raises:
        UserError: no list of words, a time that cannot be read, or `none` beside another rule.
    """
    check_words(parts, "--exclude", 'exclude=["seen"]')
    ids, within, rules = [], dict[str, float](), []
    for part in parts:
        word, colon, time = part.partition(":")
        if word not in (SEEN, PURCHASED, NONE, PURCHASE, *types):
            ids.append(part)
            continue
        rules.append(part)
        if word != NONE:
            name = PURCHASE if word == PURCHASED else word
            seconds = parse_duration(time, f"--exclude {part}") / 1e6 if colon else np.inf
            within[name] = max(seconds, within.get(name, 0.0))
    if any(part.partition(":")[0] == NONE for part in rules) and rules != [NONE]:
        raise UserError("none alone", ",".join(rules), where="--exclude", hint="leave the others out", code=Code.BAD_OPTIONS)
    return ids, SeenRule(",".join(rules), within) if rules else None


def default_rule(arrays: EventArrays, types: Sequence[str], organic: bool = False) -> tuple[str, str]:
    """What is not shown again where nobody says otherwise, and why, in words.

    A log of purchases that hardly ever repeat: `purchased`. One of choices of which none ever repeats, as ratings, likes and first visits:
    `seen`. Any other log without purchases, or one of groceries: `none`.

    Args:
        organic: whether the events are what customers chose, not answers to what they were shown.
    """
    bought = np.flatnonzero((arrays.type == 1 + list(types).index(PURCHASE)) & (arrays.item > 0)) if PURCHASE in types else ()
    if len(bought):
        share = _repeated(arrays, np.asarray(bought))
        return (PURCHASED if share <= REPEATS else NONE), f"{share:.0%} of the log's purchases repeat an earlier one"
    chosen = np.flatnonzero(arrays.item > 0)
    if organic and len(chosen) >= EVENTS and (share := _repeated(arrays, chosen)) <= SELDOM:
        return SEEN, f"{share:.1%} of the log's choices repeat an earlier one"
    return NONE, "the log has no purchases"


def _repeated(arrays: EventArrays, rows: IntArray) -> float:
    """Share of history rows whose customer has an earlier one of them with the same item."""
    user = np.searchsorted(arrays.user_start, rows, side="right")
    return 1 - len(np.unique(user * (int(arrays.item.max()) + 1) + arrays.item[rows])) / len(rows)


NOTHING_EXCLUDED = SeenRule(NONE, {})


@dataclass(frozen=True)
class ExcludingPolicy:
    """Another policy that is not offered what the rule excludes; who would have nothing left is offered everything.

    Attributes:
        types: the event types by which the observations' histories count.
    """

    policy: Policy
    rule: SeenRule
    types: Sequence[str]

    @property
    def name(self) -> str:
        """The other policy's."""
        return self.policy.name

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[NDArray[np.int64], Propensities]:
        """As the other policy, with its exact propensities among what is left."""
        candidates, mask = observation.actions.candidates, observation.actions.mask
        left = (mask != 0) & ~contains(candidates, self.rule.items(observation.state, self.types))
        nothing = ~left.any(axis=1, keepdims=True)
        return self.policy.act(
            observation._replace(actions=observation.actions._replace(mask=np.where(nothing, mask, left).astype(np.int8))), rng
        )
