"""Toys: finite recommendation worlds that value iteration solves exactly.

Each has a long-term effect that showing the most rewarding item now gets wrong, and a state that the history reveals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine, Outcome
from qurate.environments.history_rows import Group
from qurate.environments.rng import Keys, StepDraws, purposes, uniforms
from qurate.environments.value_iteration import Array
from qurate.errors import Code, UserError
from qurate.types import Availability, FloatArray, IntArray, Policy

SHOWN, WATCH = 1, 2
SECOND = 1_000_000
_ONE, _NONE = np.array(1), np.array(0)  # without a dimension, see rng.py


@dataclass(frozen=True, slots=True)
class FiniteMDP:
    """S states, A items. After (s, a) the customer rewards `amount[s, a]` with probability `chance[s, a]`, else 0,
    and independently moves to s' with probability `transition[s, a, s']`; the missing probability is leaving for good."""

    states: tuple[str, ...]  # [S]
    items: tuple[str, ...]  # [A]
    start: int
    chance: Array  # [S, A]
    amount: Array  # [S, A]
    transition: Array  # [S, A, S]

    def exact(self) -> tuple[Array, Array, tuple[str, ...]]:
        """P [S, A, S] (sub-stochastic), expected reward R [S, A], and the states' names."""
        return self.transition, self.chance * self.amount, self.states


def toy_chain(length: int = 5, prize: float = 10.0, clip: float = 0.5, leave: float = 0.05) -> FiniteMDP:
    """A serial of `length` parts beside entertaining clips.

    State k: parts watched in a row. "part" brings nothing until the last one, which brings `prize` and begins the serial
    anew; "clip" brings `clip` at once, and the thread is lost (state 0). After each item the customer leaves with
    probability `leave`. A myopic policy shows clips for ever. The run of parts at the history's end is the state.
    """
    states = tuple(f"watched_{k}" for k in range(length))
    chance, amount = np.ones((length, 2)), np.zeros((length, 2))
    transition = np.zeros((length, 2, length))
    amount[:, 0] = clip
    amount[-1, 1] = prize
    transition[:, 0, 0] = 1 - leave
    for k in range(length):
        transition[k, 1, (k + 1) % length] = 1 - leave
    return FiniteMDP(states, ("clip", "part"), 0, chance, amount, transition)


def toy_clickbait(levels: int = 5) -> FiniteMDP:
    """Clickbait costs loyalty.

    State l: loyalty 0..levels-1, at first the middle. "bait" is clicked with probability 0.9 and costs a level, "solid" with
    0.5 and earns one, "dull" with 0.2 and changes nothing. The customer leaves with probability 0.45 at level 0, falling
    linearly to 0.03 at the top. The items shown reveal the level.
    """
    chances, moves = (0.9, 0.5, 0.2), (-1, 1, 0)
    chance = np.tile(np.array(chances), (levels, 1))
    leave = np.linspace(0.45, 0.03, levels)
    transition = np.zeros((levels, 3, levels))
    for level, (item, move) in product(range(levels), enumerate(moves)):
        after = min(max(level + move, 0), levels - 1)
        transition[level, item, after] = 1 - leave[after]
    states = tuple(f"loyalty_{level}" for level in range(levels))
    return FiniteMDP(states, ("bait", "solid", "dull"), levels // 2, chance, np.ones((levels, 3)), transition)


def toy_satiation(levels: int = 4, leave: float = 0.05) -> FiniteMDP:
    """Three items that tire and recover; "feast" tires everybody of everything.

    State (x, y): satiation 0..levels-1 with "pop" and "jazz". Showing one raises its own to the top and lets the other fall by
    one; its click probability is 0.8 (pop) or 0.7 (jazz) times 0.5 per level. "feast" is clicked with probability 0.95
    times 0.6 per level of the more tired of the two and raises both to the top; "rest" is clicked with 0.1 and lets both fall.
    """
    pairs = list(product(range(levels), repeat=2))
    index = {pair: i for i, pair in enumerate(pairs)}
    top = levels - 1
    chance, transition = np.zeros((len(pairs), 4)), np.zeros((len(pairs), 4, len(pairs)))
    for (x, y), i in index.items():
        chance[i] = (0.8 * 0.5**x, 0.7 * 0.5**y, 0.95 * 0.6 ** max(x, y), 0.1)
        fallen = max(x - 1, 0), max(y - 1, 0)
        for item, after in enumerate(((top, fallen[1]), (fallen[0], top), (top, top), fallen)):
            transition[i, item, index[after]] = 1 - leave
    states = tuple(f"pop_{x}_jazz_{y}" for x, y in pairs)
    return FiniteMDP(states, ("pop", "jazz", "feast", "rest"), 0, chance, np.ones_like(chance), transition)


def toy_delayed(delay: int = 3, prize: float = 4.0, clip: float = 0.5, leave: float = 0.05) -> FiniteMDP:
    """A trailer whose reward comes `delay` decisions later, whatever is shown meanwhile.

    State k: decisions since the trailer was shown, 0 = none is pending. "trailer" brings nothing now; in state `delay` the customer
    comes back for the film and pays `prize` beside what is shown then, and nothing is pending any more, or the next trailer. Another
    trailer while one is pending brings nothing. "clip" brings `clip` at once. After each item the customer leaves with probability
    `leave`. What is shown between trailer and prize has no part in it, and a myopic policy shows clips for ever.
    """
    states = ("nothing_pending", *(f"trailer_{k}_ago" for k in range(1, delay + 1)))
    chance, amount = np.ones((delay + 1, 2)), np.zeros((delay + 1, 2))
    amount[:, 0] = clip
    amount[delay] += prize
    transition = np.zeros((delay + 1, 2, delay + 1))
    for k in range(1, delay):
        transition[k, :, k + 1] = 1 - leave
    for k in (0, delay):
        transition[k, 0, 0] = transition[k, 1, 1] = 1 - leave
    return FiniteMDP(states, ("clip", "trailer"), 0, chance, amount, transition)


TOYS: dict[str, Callable[[], FiniteMDP]] = {
    "toy_chain": toy_chain, "toy_clickbait": toy_clickbait, "toy_satiation": toy_satiation, "toy_delayed": toy_delayed,
}  # fmt: skip


class ToyWorld:
    """`World` of the engine over a finite MDP; one minute passes between decisions.

    History rows: "shown" for every item, then "watch" with the amount as its value where it was rewarded.
    """

    has_values = True
    with_replacement = False
    rows_per_step = 2  # shown, watch
    state_names: tuple[str, ...] = ("state",)

    def __init__(self, mdp: FiniteMDP) -> None:
        self.mdp = mdp
        self.item_ids = list(mdp.items)
        self.type_names = ["shown", "watch"]
        self.component_names = ["watch"]
        self.component_weights = np.ones(1, np.float32)
        n = len(mdp.items)
        self.availability = Availability.always(n)
        self.item_features = np.vstack([np.zeros(n), np.eye(n)]).astype(np.float32)
        self.feature_names = [f"item={name}" for name in mdp.items]
        self.user_feature_names: list[str] = []
        luck = purposes(0, 2)
        self._draws = StepDraws(lambda keys: (uniforms(keys, luck),))
        self._upper = mdp.transition.cumsum(axis=2).reshape(-1, len(mdp.states))  # of a state and an item
        self._chance, self._amount = mdp.chance.reshape(-1), mdp.amount.astype(np.float32).reshape(-1)
        self._n_items, self._n_states, self._start = (np.array(x) for x in (n, len(mdp.states), mdp.start))

    def allocate(self, n: int) -> None:
        self.state = np.full(n, self.mdp.start, np.int64)
        self._dwell, self._no_pause = np.full(n, 60 * SECOND), np.zeros(n, np.float32)
        for constant in (self._dwell, self._no_pause):
            constant.flags.writeable = False

    def enter(self, lanes: IntArray, keys: Keys) -> FloatArray:
        self.state[lanes] = self.mdp.start
        return np.zeros((len(lanes), 0), np.float32)

    def respond(self, items: IntArray, stream: Keys, steps: IntArray) -> Outcome:
        (luck, move), *_ = self._draws(stream)
        at = self.state * self._n_items + items - _ONE
        amount = self._amount.take(at) * (luck < self._chance.take(at))
        after = np.add.reduce(move[:, None] >= self._upper.take(at, 0), 1)
        gone = after == self._n_states
        self.state = np.where(gone, self._start, after)
        groups = [Group(SHOWN, None, items, 0)]
        rewarded = amount > _NONE
        watchers = rewarded.nonzero()[0]
        if watchers.size:
            groups.append(Group(WATCH, watchers, items[watchers], 10 * SECOND, amount[watchers]))
        return Outcome(amount[:, None], rewarded - _ONE, groups, self._dwell, self._no_pause, gone)

    def items_table(self) -> pl.DataFrame:
        """item_id only: a toy's items have no properties."""
        return pl.DataFrame({"item_id": self.item_ids})


def visited_policy(engine: BatchedEngine, policy: Policy, seed: int, lanes: int = 64, steps: int = 200) -> NDArray[np.float64]:
    """How often `policy` took each action in each state of a toy's engine, as probabilities [S, A].

    States never visited are uniform. With `evaluate_policy` this gives the exact value of a policy that only sees histories.
    """
    world = engine.world
    if not isinstance(world, ToyWorld):
        raise UserError("a toy's engine", type(world).__name__, where="visited_policy", code=Code.BAD_ARGUMENT)
    counts = np.zeros((len(world.mdp.states), len(world.mdp.items)))
    rng = np.random.default_rng([seed, 7])
    observation = engine.reset(seed, lanes)
    for _ in range(steps):
        actions, _ = policy.act(observation, rng)
        np.add.at(counts, (world.state, actions), 1)
        observation = engine.step(actions).obs
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), 1 / counts.shape[1])
