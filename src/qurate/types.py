"""The shared data types: what flows along the road events -> MDP -> replay -> learning -> policy.

Indices. Item 0 and event type 0 are padding; real items are 1..N and real types 1..M, in the order of the
vocabulary. Arrays "over the catalogue" therefore have N + 1 entries and entry 0 is never chosen.
Time is int64 microseconds UTC; gaps are float32 seconds. `discount`, never `done`.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
Propensities = NDArray[np.float64]

SESSION_GAP_US = 30 * 60 * 1_000_000
"""A pause of 30 minutes or more starts a new visit, where the log has no session ids."""


class State(NamedTuple):
    """What a policy sees of B customers before it decides; the newest event is last, padding is on the left."""

    history_items: NDArray[np.integer]  # [B, L], 0 = padding
    history_types: NDArray[np.integer]  # [B, L], 0 = padding
    history_gaps: FloatArray  # [B, L] seconds from this event to the next one; the last: to the decision's clock
    history_values: FloatArray  # [B, L], 0 where the event has no value
    user: FloatArray  # [B, U] user features
    context: FloatArray  # [B, C], see mdp/states.py


class Observation(NamedTuple):
    """A state and the actions open in it: the contract's observation, for B customers at once."""

    history_items: NDArray[np.int64]  # [B, L]
    history_types: NDArray[np.int64]  # [B, L]
    history_gaps: FloatArray  # [B, L]
    history_values: FloatArray  # [B, L]
    user: FloatArray  # [B, U]
    context: FloatArray  # [B, C]
    candidates: NDArray[np.int64]  # [B, K] item indices, 0 = no candidate; a broadcast view when all rows share them
    action_mask: NDArray[np.int8]  # [B, K], 1 = may be shown

    @property
    def state(self) -> State:
        """The part that describes the customer."""
        return State(*self[:6])


class EventRows(NamedTuple):
    """M new history rows, in the order in which they happened; `lane` says whose (a simulator's user slot)."""

    lane: NDArray[np.int64]  # [M]
    item: NDArray[np.int32]  # [M]
    type: NDArray[np.uint8]  # [M]
    time: NDArray[np.int64]  # [M] microseconds
    value: FloatArray  # [M]


class Feedback(NamedTuple):
    """What one batched step brought. Where an episode ended, `obs` is already the next customer's first one."""

    obs: Observation
    reward: FloatArray  # [B] weighted sum of the components
    components: FloatArray  # [B, R]
    terminated: NDArray[np.bool_]  # [B] gone for good
    truncated: NDArray[np.bool_]  # [B] step limit
    clicked: NDArray[np.int64]  # [B] position clicked in the slate, -1 = none
    rows: EventRows  # what happened, as history rows; complete also where the episode ended
    clock: NDArray[np.int64]  # [B] time of the next decision of the *same* customer, before any reset
    pause: FloatArray  # [B] seconds between visits if this step ended a visit, else 0


@dataclass(frozen=True, slots=True)
class EventArrays:
    """All history rows of a log, once: sorted by user, then time, then order in the log."""

    item: NDArray[np.int32]  # [E]
    type: NDArray[np.uint8]  # [E]
    time: NDArray[np.int64]  # [E] microseconds
    value: FloatArray  # [E], 0 where absent
    user_start: NDArray[np.int64]  # [U + 1]: rows of user u are user_start[u]:user_start[u + 1]


CONTINUES, TERMINATED, CENSORED = 0, 1, 2
"""How a transition ends: with a successor; gone for good (discount 0); successor never observed (no TD target)."""

TRAIN, VALID, TEST, HISTORY = 0, 1, 2, 3
"""Splits; HISTORY rows are seen in states but are never targets."""


@dataclass(frozen=True, slots=True)
class Transitions:
    """D states (one per decision) and T item-level transitions between them, as indices into `EventArrays`.

    A decision that showed one item gives one transition; a list of k items gives k transitions that share state
    and successor, each with the reward of its own item (credit is never counted twice).
    """

    # states, [D], sorted by user then clock
    user: NDArray[np.int32]
    hi: NDArray[np.int64]  # first event row that is NOT in the state; the state is user_start[user]:hi
    clock: NDArray[np.int64]  # microseconds: when the decision was made
    n_available: NDArray[np.int32]  # items 1..n_available were available at `clock` (catalogue order = availability)
    candidates: NDArray[np.int32]  # ragged explicit candidates, [sum K]
    candidates_start: NDArray[np.int64]  # [D + 1]; an empty range means 1..n_available
    split: NDArray[np.uint8]
    # transitions, [T], sorted by state
    state: NDArray[np.int32]
    action: NDArray[np.int32]
    reward: FloatArray  # [T, R] credited value per component, before weighting
    pause: FloatArray  # seconds between visits if the step to the successor crosses one, else 0
    next_state: NDArray[np.int32]  # -1 where none
    end: NDArray[np.uint8]  # CONTINUES | TERMINATED | CENSORED
    propensity: FloatArray  # NaN where not logged


class Batch(NamedTuple):
    """B sampled transitions, ready for `Learner.update`."""

    state: State
    action: IntArray  # [B]
    reward: FloatArray  # [B, R] one-step reward by component
    later_reward: FloatArray  # [B, R] discounted rewards of steps 2..n (0 for n = 1)
    discount: FloatArray  # [B] discount of the successor: 0 = terminated
    bootstrap: FloatArray  # [B] 1 where the successor was observed or is terminal, 0 = censored: no TD loss
    next_state: State
    next_candidates: IntArray | None  # [B, K] padded with 0, or None: items 1..next_available
    next_available: IntArray  # [B]
    index: IntArray  # type: ignore[assignment]  # [B] which transitions these are, for priorities


class Policy(Protocol):
    """Chooses what to show. `observation.candidates[b, actions[b]]` is the item."""

    @property
    def name(self) -> str:
        """As in tables."""
        ...

    def act(self, observation: Observation, rng: np.random.Generator) -> tuple[NDArray[np.int64], Propensities]:
        """Actions int64 [B] (or [B, k]) as positions in the candidates, and their propensities, float64, same shape."""
        ...


class Scorer(Protocol):
    """Ranks candidates; greedy, epsilon-greedy and softmax policies are made from one."""

    @property
    def name(self) -> str:
        """As in tables."""
        ...

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K]: higher is better; masked candidates may have any value."""
        ...


class Engine(Protocol):
    """A batched environment (contract: `reset(seed, n)`, `step(actions)`)."""

    item_ids: list[str]  # text ids of items 1..N
    type_names: list[str]  # names of types 1..M
    component_names: list[str]  # [R]
    component_weights: FloatArray  # [R]
    item_features: FloatArray  # [N + 1, F], row 0 zeros
    feature_names: list[str]  # [F]
    user_feature_names: list[str]  # [U]

    def reset(self, seed: int, n: int) -> Observation: ...
    def step(self, actions: NDArray[np.int64]) -> Feedback: ...
