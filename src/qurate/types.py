"""The shared data types of all stages: events, MDP, replay, learning, policy.

Indices. Item 0 and event type 0 are padding; real items are 1..N and real types 1..M, in the order of the
vocabulary. Arrays "over the catalogue" therefore have N + 1 entries and entry 0 is never chosen.
Time is int64 microseconds UTC; gaps are float32 seconds. `discount`, never `done`.
"""

from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypeVar  # with defaults, which typing has from Python 3.13 on

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
Propensities = NDArray[np.float64]
ArrayT = TypeVar("ArrayT", default=NDArray[Any])
"""numpy arrays in the replay, tensors in the learner."""

ALWAYS, NEVER = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)
"""Availability from the beginning of time; availability that does not come, or does not end."""

SESSION_GAP_US = 30 * 60 * 1_000_000
"""A pause of 30 minutes or more starts a new visit, where the log has no session ids."""

DEFAULT_TAU_S = 30 * 86_400.0
"""Seconds: the discount across a pause of p seconds is exp(-p / tau), where no dataset says otherwise."""


class State(NamedTuple):
    """What a policy sees of B customers before it decides; the newest event is last, padding is on the left."""

    history_items: NDArray[Any]  # integers [B, L], 0 = padding
    history_types: NDArray[Any]  # integers [B, L], 0 = padding
    history_gaps: FloatArray  # [B, L] seconds from this event to the next one; the last: to the time of the decision
    history_values: FloatArray  # [B, L], 0 where the event has no value
    user: FloatArray  # [B, U] user features
    context: FloatArray  # [B, C], see mdp/states.py


class DenseState(NamedTuple):
    """What a policy sees of B copies of a Gymnasium task: numbers or pixels, and integers with an embedding each."""

    numbers: NDArray[np.float32] | NDArray[np.uint8]  # [B, D] float32, or [B, C, H, W] uint8 pixels
    categories: IntArray  # [B, G] each in 0..n_g - 1; G = 0 where the task has none


StateT = TypeVar("StateT", bound=tuple[Any, ...], default=State)
"""A state: a named tuple of arrays whose first axis is the batch."""


def take_rows(state: StateT, rows: Any) -> StateT:
    """The states at `rows` (an index array, a slice or a mask) of a batch of states."""
    return type(state)(*(array[rows] for array in state))


class Actions(NamedTuple):
    """What may be shown to B customers. Actions are numbered 1..N; `candidates[b, position]` is the action at a position."""

    candidates: IntArray  # [B, K] action indices, 0 = no candidate; a broadcast view when all rows share them
    mask: NDArray[np.int8]  # [B, K], 1 = may be shown
    values: FloatArray | None = None  # [B, K, G] what the log or the request says of each candidate at this decision, NaN = not known
    columns: tuple[str, ...] = ()  # [G] names of `values`


class Observation(NamedTuple, Generic[StateT]):
    """A state and the actions open in it, for B customers at once."""

    state: StateT
    actions: Actions


class OpenActions(NamedTuple, Generic[ArrayT]):
    """What may be chosen in B states, mostly successors: explicit lists, else the catalogue at a clock, else a mask.

    A row of `candidates` that is all 0 stands for the catalogue.
    """

    candidates: ArrayT | None  # [B, K] padded with 0
    clock: ArrayT | None  # int64 [B] microseconds: open are the items whose availability contains it
    since: ArrayT | None  # int64 [N + 1], see `Availability`
    until: ArrayT | None  # int64 [N + 1]; None where no item ever ends
    mask: ArrayT | None = None  # bool [B, N + 1], column 0 False: legal actions of a task without a catalogue
    features: ArrayT | None = None  # float32 [B, K, F] of `candidates` at this decision, see mdp/candidate_features.py
    excluded: ArrayT | None = None  # int64 [B, X] padded with 0: items of the catalogue that are not open for another reason


@dataclass(frozen=True, slots=True)
class Availability:
    """When each item may be shown: from `since` (inclusive) until `until` (exclusive), in microseconds.

    Items are numbered in order of `since`, so that those that have begun are items 1..n. No item ends before it begins.
    """

    since: IntArray  # [N + 1] ascending; ALWAYS = from the beginning, NEVER = not known; entry 0 is NEVER
    until: IntArray  # [N + 1]; NEVER = does not end

    @classmethod
    def always(cls, n_items: int) -> "Availability":
        """All of n items, at any time."""
        since = np.full(n_items + 1, ALWAYS)
        since[0] = NEVER
        return cls(since, np.full(n_items + 1, NEVER))

    @property
    def ends(self) -> bool:
        """Whether any item ever stops being available."""
        return bool((self.until < NEVER).any())

    @property
    def n_ever(self) -> int:
        """Items that become available at all: items 1..n_ever."""
        return int(np.searchsorted(self.since[1:], NEVER))

    def n_begun(self, clock: IntArray | int) -> IntArray:
        """How many items have begun by each clock, int64, shape of `clock`: items 1..n; some of them may have ended."""
        return np.searchsorted(self.since[1 : self.n_ever + 1], clock, "right").astype(np.int64)

    def n_open(self, clock: IntArray | int) -> IntArray:
        """How many items may be shown at each clock, int64, shape of `clock`."""
        begun = self.n_begun(clock)
        return begun - np.searchsorted(np.sort(self.until), clock, "right") if self.ends else begun

    def open_items(self, clock: int) -> IntArray:
        """Indices of the items that may be shown at `clock`, ascending."""
        begun = np.arange(1, int(self.n_begun(clock)) + 1, dtype=np.int64)
        return begun[self.until[begun] > clock] if self.ends else begun

    def is_open(self, items: NDArray[np.integer], clock: IntArray) -> NDArray[np.bool_]:
        """Whether each of `items` [...] may be shown at `clock` (same shape, or one that broadcasts); item 0 never."""
        inside: NDArray[np.bool_] = (self.since[items] <= clock) & (clock < self.until[items])
        return inside


class EventRows(NamedTuple):
    """M new history rows, in the order in which they happened; `lane` says whose (a simulator's user slot)."""

    lane: NDArray[np.int64]  # [M]
    item: NDArray[np.int32]  # [M]
    type: NDArray[np.uint8]  # [M]
    time: NDArray[np.int64]  # [M] microseconds
    value: FloatArray  # [M]


class Feedback(NamedTuple):
    """What one batched step brought. Where an episode ended, `obs` is already the next customer's first one."""

    obs: Observation[Any]
    reward: FloatArray  # [B] weighted sum of the components
    components: FloatArray  # [B, R]
    terminated: NDArray[np.bool_]  # [B] the episode ended: the customer left for good
    truncated: NDArray[np.bool_]  # [B] the step limit was reached; the state after it has a value
    clicked: NDArray[np.int64]  # [B] position clicked in the slate, -1 = none
    rows: EventRows  # what happened, as history rows; complete also where the episode ended
    clock: NDArray[np.int64]  # [B] time of the next decision of the *same* customer, before any reset
    pause: FloatArray  # [B] seconds between visits if this step ended a visit, else 0
    final: Any = None  # where an episode was truncated: the state before the reset [B, ...]; None from worlds of events, whose rows hold it
    final_actions: Actions | None = None  # the actions open in that state; None: nobody truncated, or the catalogue at `clock`
    user: FloatArray | None = None  # [B, U] what is seen of the *same* customers after the step, before any reset; None: it never changes
    life_lost: NDArray[np.bool_] | None = None  # [B] a life of a game was lost, and the game goes on; None: a task without lives


@dataclass(frozen=True, slots=True)
class EventArrays:
    """All history rows of a log, once: sorted by user, then time, then order in the log."""

    item: NDArray[np.int32]  # [E]
    type: NDArray[np.uint8]  # [E]
    time: NDArray[np.int64]  # [E] microseconds
    value: FloatArray  # [E], 0 where absent
    user_start: NDArray[np.int64]  # [U + 1]: rows of user u are user_start[u]:user_start[u + 1]


CONTINUES, TERMINATED, CENSORED = 0, 1, 2
"""How a transition ends: with a successor; the episode ended (discount 0); successor never observed (no TD target)."""

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
    history_end: NDArray[np.int64]  # first event row that is NOT in the state; the state is user_start[user]:history_end
    clock: NDArray[np.int64]  # microseconds: when the decision was made; says what was available (`Availability`)
    candidates: NDArray[np.int32]  # ragged explicit candidates, [sum K]
    candidates_start: NDArray[np.int64]  # [D + 1]; an empty range means all items that are available at `clock`
    split: NDArray[np.uint8]
    # transitions, [T], sorted by state
    state: NDArray[np.int32]
    action: NDArray[np.int32]
    reward: FloatArray  # [T, R] credited value per component, before weighting
    pause: FloatArray  # seconds between visits if the step to the successor crosses one, else 0
    next_state: NDArray[np.int32]  # -1 where none
    end: NDArray[np.uint8]  # CONTINUES | TERMINATED | CENSORED
    propensity: FloatArray  # NaN where not logged
    # of the candidates
    candidate_values: FloatArray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """[sum K, G] what the log says of each at its decision, NaN = not known."""
    # states again: of the items that are available at `clock`, those that could not be shown, ragged like the candidates
    excluded: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))  # [sum X]
    excluded_start: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # [D + 1], or [0]: nothing was excluded


class Batch(NamedTuple, Generic[StateT, ArrayT]):
    """B sampled transitions, ready for an objective; rewards are already weighted."""

    state: StateT
    action: ArrayT  # int64 [B]
    reward: ArrayT  # float32 [B, R] one-step reward by component
    later_reward: ArrayT  # float32 [B, R] discounted rewards of steps 2..n (0 for n = 1)
    discount: ArrayT  # float32 [B] discount of the successor: 0 = terminated
    bootstrap: ArrayT  # float32 [B] 1 where the successor was observed or is terminal, 0 = censored: no TD loss
    next_state: StateT
    next_actions: OpenActions[ArrayT]
    next_action: ArrayT  # int64 [B] what was shown in the successor; 0 where nothing was, or a list
    index: ArrayT  # type: ignore[assignment]  # int64 [B] which transitions these are, for priorities
    action_features: ArrayT | None = None  # float32 [B, F] of the action at its decision; None where candidates have none
    offered: ArrayT | None = None  # int64 [B, K] the shortlist of the decision, padded with 0; None where there is none
    offered_features: ArrayT | None = None  # float32 [B, K, F]
    actions: OpenActions[ArrayT] | None = None  # what could be chosen at the decision itself; None where no algorithm needs it
    shown: ArrayT | None = None  # int64 [B, k] the slate of the decision, of which `action` was chosen (0 = nothing); None: single items
    next_shown: ArrayT | None = None  # int64 [B, k] the slate shown in the successor; 0 where none has been


class Policy(Protocol):
    """Chooses what to show. `observation.actions.candidates[b, actions[b]]` is the item."""

    @property
    def name(self) -> str:
        """Display name."""
        ...

    def act(self, observation: Observation[Any], rng: np.random.Generator) -> tuple[NDArray[np.int64], Propensities]:
        """Actions int64 [B] (or [B, k]) as positions in the candidates, and their propensities, float64, same shape."""
        ...


class Scorer(Protocol):
    """Ranks candidates; greedy, epsilon-greedy and softmax policies are made from one."""

    @property
    def name(self) -> str:
        """Display name."""
        ...

    def scores(self, observation: Observation[Any]) -> FloatArray:
        """float32 [B, K]: higher is better; masked candidates may have any value."""
        ...


class Engine(Protocol):
    """A batched environment (contract: `reset(seed, n)`, `step(actions)`)."""

    item_ids: list[str]  # text ids of items 1..N
    type_names: list[str]  # names of types 1..M
    component_names: list[str]  # [R]
    component_weights: FloatArray  # [R]
    feature_names: list[str]  # [F]
    user_feature_names: list[str]  # [U]

    @property
    def item_features(self) -> FloatArray: ...  # [N + 1, F], row 0 zeros

    def reset(self, seed: int, n: int) -> Observation[Any]: ...
    def step(self, actions: NDArray[np.int64]) -> Feedback: ...
