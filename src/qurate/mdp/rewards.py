"""What an event is worth: `{type: weight}` or `{type: {weight, per: value, cap}}`, kept as separate components."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.errors import Code, UserError, nearest
from qurate.events.schema import FLOAT32_MAX, STANDARD_TYPES
from qurate.types import FloatArray

DERIVED = ("no_response", "leave")
"""Rewards that no event carries: shown and nothing came within the window; silent longer than `churn_after`."""


@dataclass(frozen=True, slots=True)
class Reward:
    """The worth of one event type."""

    weight: float  # per event, or per unit of its value
    per_value: bool = False
    cap: float | None = None  # of the value of one event, before weighting

    def amount(self, value: NDArray[Any]) -> NDArray[np.float64]:
        """Unweighted amount of each event: 1, or its value up to the cap."""
        if not self.per_value:
            return np.ones(len(value))
        amount = value.astype(np.float64)
        return amount if self.cap is None else np.minimum(amount, self.cap)

    def to_json(self) -> dict[str, Any]:
        """The form of the contract."""
        extra: dict[str, Any] = {"per": "value"} if self.per_value else {}
        return {"weight": self.weight, **extra, **({} if self.cap is None else {"cap": self.cap})}


DEFAULT_REWARDS: dict[str, Reward] = {
    "click": Reward(1.0),
    "view": Reward(1.0),
    "cart": Reward(2.0),
    "purchase": Reward(5.0),
    "watch": Reward(0.01, per_value=True, cap=60.0),  # seconds
    "rating": Reward(1.0, per_value=True),
    "like": Reward(1.0),
    "dislike": Reward(-1.0),
    "share": Reward(2.0),
    "comment": Reward(1.0),
    "gift": Reward(5.0),
    "follow": Reward(2.0),
    "hide": Reward(-1.0),
}
"""Assumptions, not measurements: say what an event is worth to you with `rewards`."""


def parse_rewards(spec: str | Mapping[str, Any]) -> dict[str, Reward]:
    """Rewards from `click=1,purchase=10`, from JSON text, or from a mapping.

    Raises:
        UserError: not a number, an unknown key, `per` other than value, a cap without `per` or not above 0, a type twice.
    """
    weights: Any = _parse_text(spec) if isinstance(spec, str) else spec
    if not isinstance(weights, Mapping):
        raise UserError(
            "weights by event type", repr(spec)[:60], where="rewards", hint="write for example click=1,purchase=10", code=Code.BAD_REWARD
        )
    rewards = {}
    for name, given in weights.items():
        where = f"rewards, {name}"
        if isinstance(given, Reward):
            rewards[name] = given
            continue
        parts = dict(given) if isinstance(given, Mapping) else {"weight": given}
        for key in parts:
            if key not in ("weight", "per", "cap"):
                raise UserError(
                    "weight, per or cap", str(key), where=where, hint=nearest(str(key), ("weight", "per", "cap")), code=Code.BAD_REWARD
                )
        per, cap = parts.get("per"), parts.get("cap")
        if per not in (None, "value"):
            raise UserError("per: value", f"per: {per}", where=where, hint="leave per out to count events", code=Code.BAD_REWARD)
        if cap is not None and per is None:
            raise UserError("cap together with per: value", "cap alone", where=where, hint="add per: value", code=Code.BAD_REWARD)
        weight = _number(parts.get("weight"), where)
        limit = None if cap is None else _number(cap, where)
        if limit is not None and limit <= 0:
            # The cap is the most that one event may count: below 0 it would be worth the same whatever its value.
            raise UserError("a cap above 0", str(cap), where=where, hint="give the largest value that counts", code=Code.BAD_REWARD)
        rewards[name] = Reward(weight, per == "value", limit)
    if not rewards:
        raise UserError("at least one reward", "none", where="rewards", hint="write for example click=1,purchase=10", code=Code.BAD_REWARD)
    return rewards


def resolve_rewards(spec: str | Mapping[str, Any] | None, types: Sequence[str], kind: str, churn: bool) -> dict[str, Reward]:
    """The reward components of a log, in order.

    Args:
        spec: the user's rewards; None: the defaults of the types that the log has.
        types: event types in the log.
        kind: organic | exposure | logged.
        churn: whether `churn_after` is given.

    Raises:
        UserError: an unknown type (the nearest known one is named), a derived reward that this log cannot have, no type
            with a default, or all weights zero.
    """
    if spec is None:
        rewards = {name: reward for name, reward in DEFAULT_REWARDS.items() if name in types}
        if not rewards:
            own = ", ".join(types[:10]) + (f" and {len(types) - 10:,} more" if len(types) > 10 else "")
            example = f"say for example --rewards {shlex.quote(f'{types[0]}=1')}; the log has {own}" if types else ""
            hint = example or "the log says what was shown, but nothing of what came of it"
            raise UserError("a reward", "no event type with a default", where="rewards", hint=hint, code=Code.NO_REWARD)
        return rewards
    rewards = parse_rewards(spec)
    known = set(types) | set(STANDARD_TYPES) | set(DERIVED)
    for name in rewards:
        if name not in known:
            raise UserError("an event type of the log", name, where="rewards", hint=nearest(name, known), code=Code.UNKNOWN_EVENT_TYPE)
    if "no_response" in rewards and kind == "organic":
        hint = "leave it out, or log what was shown"
        raise UserError("a log of what was shown", "an organic log", where="rewards, no_response", hint=hint, code=Code.NO_RESPONSE_ORGANIC)
    if "leave" in rewards and not churn:
        raise UserError(
            "--churn-after beside leave",
            "no --churn-after",
            where="rewards, leave",
            hint="say how long a silence means gone",
            code=Code.LEAVE_WITHOUT_CHURN,
        )
    if not any(reward.weight for reward in rewards.values()):
        raise UserError(
            "a weight other than 0", "all rewards zero", where="rewards", hint="give the event that you want a weight", code=Code.NO_REWARD
        )
    return rewards


def unrewarded(name: str, types: Sequence[str]) -> str:
    """The note on a reward for a type that the log does not have."""
    return f"a reward is given for {name}, and the log has no event of that type; it has {', '.join(sorted(types)[:10]) or 'none'}"


def rewards_of_log(kept: Mapping[str, Any] | None, types: Sequence[str], kind: str, churn: bool) -> dict[str, Reward] | None:
    """Those of the model that a service answered with which this log can have; None where that is none.

    Args:
        kept: `EventLog.rewards`. types, kind, churn: as for `resolve_rewards`.
    """
    possible = {*types, *(["no_response"] if kind != "organic" else []), *(["leave"] if churn else [])}
    found = {name: reward for name, reward in parse_rewards(kept).items() if name in possible} if kept else {}
    return found if any(reward.weight for reward in found.values()) else None


def weights_of(rewards: Mapping[str, Reward]) -> FloatArray:
    """float32 [R]."""
    return np.array([reward.weight for reward in rewards.values()], np.float32)


FEW_ROWS = 64
"""Up to so many rows a call of NumPy takes longer than its arithmetic."""


def weighted_sum(components: FloatArray, weights: FloatArray) -> FloatArray:
    """The rewards float32 [B] of `components` [B, R]. A matrix product would round a row otherwise beside other rows; this does not."""
    if len(components) <= FEW_ROWS and len(weights) > 1:
        weighted = components * weights  # one call instead of R, the same sums
        total: FloatArray = weighted[:, 0] + weighted[:, 1]
        for i in range(2, len(weights)):
            total += weighted[:, i]
        return total
    total = components[:, 0] * weights[0]
    for i in range(1, len(weights)):
        total += components[:, i] * weights[i]
    return total


def _parse_text(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            parsed: dict[str, Any] = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            hint = 'for example {"watch": {"weight": 0.01, "per": "value"}}'
            raise UserError("a JSON object", str(error), where="rewards", hint=hint, code=Code.BAD_REWARD) from None
        return parsed
    pairs = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, weight = part.partition("=")
        if not equals:
            raise UserError("TYPE=WEIGHT", part, where="rewards", hint="write for example click=1,purchase=10", code=Code.BAD_REWARD)
        pairs.append((name.strip(), weight.strip()))
    return _once(pairs)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict; of a name given twice one would be lost without a word."""
    named: dict[str, Any] = {}
    for name, value in pairs:
        if name in named:
            raise UserError("each name once", f"{name} twice", where="rewards", hint="leave one of them out", code=Code.BAD_REWARD)
        named[name] = value
    return named


def _number(given: Any, where: str) -> float:
    try:
        number = float(given) if not isinstance(given, bool) else float("nan")
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < FLOAT32_MAX:  # NaN too
        raise UserError("a finite number", str(given), where=where, hint="write for example click=1", code=Code.BAD_REWARD)
    return number
