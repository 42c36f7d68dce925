"""What each part promises, as checks that any implementation can be held to: yours, ours, a later one.

Every check raises AssertionError whose message begins with the rule that is broken; with nothing raised, all rules hold.
They are statistical where a promise is about chance: an honest implementation fails about once in 100,000 runs, and never
changes from run to run, because the seeds are fixed.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qurate.environments.registry import make_engine
from qurate.errors import QurateError
from qurate.mdp.states import CONTEXT_NAMES, derive_context
from qurate.serving.store import DecisionRow, EventRow, StoredRow, Write
from qurate.types import Actions, Engine, Feedback, FloatArray, IntArray, Observation, Policy, take_rows

CUSTOMERS, STEPS = 24, 8
"""How many customers, for how many decisions, `check_env` watches."""

DRAWS = 4_000
"""How often `check_policy` has one decision made."""

SIGMAS = 4.5
"""Standard errors that a frequency may be off."""

Estimator = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""(reward, logged propensity, new policy's probability of the logged action), each float64 [n] -> contributions float64 [n]."""


class Sampler(Protocol):
    """Draws transitions from a replay."""

    def sample(self, rng: np.random.Generator, batch_size: int) -> Any: ...


class EventStore(Protocol):
    """What the service asks of a store (`serving/store.py`)."""

    last_seq: int

    def submit(self, write: Write) -> None: ...
    def close(self) -> None: ...
    def history(self, user_id: str, window: int, types: Sequence[str], shown: bool) -> tuple[list[StoredRow], int | None, int]: ...


OpenStore = Callable[[Callable[[list[Write], int], None]], EventStore]
"""Opens the store on the same data each time it is called, with what is to be told after each commit."""


def arrays_of(observation: Observation) -> list[NDArray[Any]]:
    """The arrays of an observation: those of the state, candidates, mask."""
    return [*observation.state, observation.actions.candidates, observation.actions.mask]


def with_mask(observation: Observation, mask: NDArray[np.int8]) -> Observation:
    """The same observation with another mask."""
    return observation._replace(actions=observation.actions._replace(mask=mask))


def _require(ok: object, rule: str, detail: str = "") -> None:
    """The one place where a rule breaks."""
    if not ok:
        raise AssertionError(f"{rule}: {detail}" if detail else rule)


def _array(value: Any, shape: tuple[int, ...], dtype: Any, rule: str, name: str) -> None:
    got = f"{name} is {getattr(value, 'dtype', type(value).__name__)} {list(np.shape(value))}, expected {np.dtype(dtype)} {list(shape)}"
    _require(isinstance(value, np.ndarray) and value.shape == shape and value.dtype == dtype, rule, got)


# environments


def check_env(env: Engine | gymnasium.Env[Any, Any]) -> None:
    """A batched engine, or one of our Gymnasium environments.

    Rules: catalogue, observation, feedback, history, same seed same customers, another seed other customers, batch size changes
    nothing, illegal actions are refused; for Gymnasium: observation space, info, reward, and the seed's.
    """
    if isinstance(env, gymnasium.Env):
        return _check_gym(env)
    _check_catalogue(env)
    told = _watch(env, 5, CUSTOMERS, check=True)
    _require(_equal(told, _watch(env, 5, CUSTOMERS)), "same seed, same customers", "seed 5 was played twice with the same actions")
    _require(not _equal(told, _watch(env, 6, CUSTOMERS)), "another seed, other customers", "seeds 5 and 6 gave the same feedback")
    for n in (1, 7):
        few = _watch(env, 5, n)
        same = all(_equal([a[:n][alive] for a in all_], [a[alive] for a in some]) for alive, all_, some in _first_episodes(told, few, n))
        _require(same, "batch size changes nothing", f"the first {n} of {CUSTOMERS} customers answer otherwise when they are alone")
    observation = env.reset(5, 2)
    shape = (2,) if np.ndim(_actions(env, observation, 0)) == 1 else (2, _actions(env, observation, 0).shape[1])
    for bad in (-1, observation.actions.candidates.shape[1]):
        refused = False
        try:
            env.step(np.full(shape, bad, np.int64))
        except QurateError:
            refused = True
        _require(
            refused, "illegal actions are refused", f"position {bad} of {observation.actions.candidates.shape[1]} candidates was taken"
        )


def _check_catalogue(env: Engine) -> None:
    rule, n, parts = "catalogue", len(env.item_ids), len(env.component_names)
    for name in ("item_ids", "type_names", "component_names", "user_feature_names"):
        values = list(getattr(env, name))
        _require(len(set(values)) == len(values) and all(isinstance(v, str) for v in values), rule, f"{name} are not distinct texts")
    _array(env.component_weights, (parts,), np.float32, rule, "component_weights")
    _array(env.item_features, (n + 1, len(env.feature_names)), np.float32, rule, "item_features")
    _require(not env.item_features[0].any(), rule, "item_features[0] is padding and must be zeros")


def _check_observation(env: Engine, o: Observation, n: int) -> None:
    rule, (length, k) = "observation", (o.state.history_items.shape[1], o.actions.candidates.shape[1])
    for name, width, dtype in (
        ("history_items", length, np.int64), ("history_types", length, np.int64), ("history_gaps", length, np.float32),
        ("history_values", length, np.float32), ("user", len(env.user_feature_names), np.float32),
        ("context", len(CONTEXT_NAMES), np.float32), ("candidates", k, np.int64), ("action_mask", k, np.int8),
    ):  # fmt: skip
        value = o.actions.mask if name == "action_mask" else getattr(o.actions if name == "candidates" else o.state, name)
        _array(value, (n, width), dtype, rule, name)
        _require(np.isfinite(value).all(), rule, f"{name} is not finite")
    _require(((o.state.history_items >= 0) & (o.state.history_items <= len(env.item_ids))).all(), rule, "history_items outside 0..N")
    _require(((o.state.history_types >= 0) & (o.state.history_types <= len(env.type_names))).all(), rule, "history_types outside 0..M")
    real = o.state.history_types > 0
    _require((real[:, 1:] >= real[:, :-1]).all(), rule, "padding is not on the left")
    _require(not (o.state.history_items[~real].any() or o.state.history_gaps[~real].any()), rule, "padding is not 0")
    _require((o.state.history_gaps >= 0).all(), rule, "a gap below 0 s")
    _require(
        np.array_equal(o.state.context, derive_context(o.state.history_types, o.state.history_gaps)),
        rule,
        "context is not derive_context(window)",
    )
    _require(((o.actions.candidates >= 0) & (o.actions.candidates <= len(env.item_ids))).all(), rule, "candidates outside 0..N")
    _require(np.isin(o.actions.mask, (0, 1)).all(), rule, "action_mask is not 0 or 1")
    _require(not o.actions.mask[o.actions.candidates == 0].any(), rule, "padding among the candidates is open")
    _require(o.actions.mask.any(axis=1).all(), rule, "a customer without any allowed candidate")


def _check_feedback(env: Engine, before: Observation, f: Feedback, n: int) -> None:
    rule, r = "feedback", f.rows
    for name, shape, dtype in (
        ("reward", (n,), np.float32), ("components", (n, len(env.component_names)), np.float32), ("terminated", (n,), np.bool_),
        ("truncated", (n,), np.bool_), ("clicked", (n,), np.int64), ("clock", (n,), np.int64), ("pause", (n,), np.float32),
    ):  # fmt: skip
        _array(getattr(f, name), shape, dtype, rule, name)
    _require(np.allclose(f.reward, f.components @ env.component_weights, rtol=1e-5), rule, "reward is not the weighted sum of components")
    _require(not (f.terminated & f.truncated).any(), rule, "terminated and truncated at once")
    _require((f.pause >= 0).all() and not f.pause[f.terminated].any(), rule, "a pause below 0 s, or of a customer who is gone")
    _require(((r.lane >= 0) & (r.lane < n)).all(), rule, "a row of no lane")
    _require(((r.item >= 0) & (r.item <= len(env.item_ids))).all(), rule, "a row with an item outside 0..N")
    _require(((r.type >= 1) & (r.type <= len(env.type_names))).all(), rule, "a row with a type outside 1..M")
    _require((r.time <= f.clock[r.lane]).all(), rule, "a row later than the next decision")
    order = np.argsort(r.lane, kind="stable")
    same_lane = np.diff(r.lane[order]) == 0
    _require((np.diff(r.time[order])[same_lane] >= 0).all(), rule, "rows of a customer are not in order of time")
    length = before.state.history_items.shape[1]
    for lane in np.flatnonzero(~(f.terminated | f.truncated))[:8].tolist():
        own = order[r.lane[order] == lane]
        for name, new in (("history_items", r.item[own]), ("history_types", r.type[own]), ("history_values", r.value[own])):
            expected = np.concatenate([getattr(before.state, name)[lane], new])[-length:]
            _require(
                np.array_equal(getattr(f.obs.state, name)[lane], expected), "history", f"{name} is not the old window and the new rows"
            )


def _actions(env: Engine, o: Observation, step: int) -> IntArray:
    """Legal actions that depend on lane and step only."""
    open_ = np.argsort(o.actions.mask == 0, axis=1, kind="stable")
    count, k = o.actions.mask.sum(axis=1, dtype=np.int64), int(getattr(env, "slate_size", 1))
    lane = np.arange(len(count))
    first = (lane * 7 + step * 13) % np.maximum(count - k + 1, 1)
    picked: IntArray = np.take_along_axis(open_, first[:, None] + np.arange(k), axis=1).astype(np.int64)
    return picked[:, 0] if k == 1 else picked


def _watch(env: Engine, seed: int, n: int, check: bool = False) -> list[NDArray[Any]]:
    """Everything n customers of a seed were seen to do: arrays [n, ...], eleven for each step."""
    observation = env.reset(seed, n)
    if check:
        _check_observation(env, observation, n)
    seen: list[NDArray[Any]] = []
    for step in range(STEPS):
        seen += [np.array(x) for x in (*observation.state, observation.actions.candidates)]
        f = env.step(_actions(env, observation, step))
        if check:
            _check_observation(env, f.obs, n)
            _check_feedback(env, observation, f, n)
        seen += [np.array(x) for x in (f.components, f.terminated | f.truncated, f.clicked, f.clock)]
        observation = f.obs
    return seen


def _equal(one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other))


def _first_episodes(many: list[NDArray[Any]], few: list[NDArray[Any]], n: int) -> Any:
    """(lanes still with their first customer, arrays of a step at one size, at the other)."""
    alive = np.ones(n, np.bool_)
    for at in range(0, len(many), 11):
        yield alive.copy(), many[at : at + 11], few[at : at + 11]
        alive &= ~many[at + 8][:n]


def _check_gym(env: gymnasium.Env[Any, Any]) -> None:
    def play(seed: int) -> list[Any]:
        observation, info = env.reset(seed=seed)
        seen: list[Any] = []
        for step in range(3 * STEPS):
            _require(env.observation_space.contains(observation), "observation space", f"step {step} is outside of it")
            _require({"components", "item_ids", "time", "available"} <= set(info), "info", f"step {step} has {sorted(info)}")
            legal = np.flatnonzero(observation["action_mask"])
            slate = isinstance(env.action_space, gymnasium.spaces.MultiDiscrete)
            action = legal[: len(env.action_space.nvec)] if slate else legal[step * 7 % len(legal)]  # type: ignore[attr-defined]
            observation, reward, terminated, truncated, info = env.step(action)
            _require(isinstance(reward, float) and np.isfinite(reward), "reward", f"{reward!r} is no finite float")
            _require(not (terminated and truncated), "ends", "terminated and truncated at once")
            seen += [reward, terminated, truncated, *(np.array(x) for x in observation.values())]
            if terminated or truncated:
                observation, info = env.reset()
        return [np.asarray(x) for x in seen]

    told = play(3)
    _require(_equal(told, play(3)), "same seed, same customers", "seed 3 was played twice with the same actions")
    _require(not _equal(told, play(4)), "another seed, other customers", "seeds 3 and 4 gave the same feedback")


# policies


def check_policy(policy: Policy, observation: Observation | None = None) -> None:
    """A policy: what it may show, and that its propensities are the truth.

    Rules: name, actions, masks, nothing allowed, propensity range, same draw same actions, observation untouched, propensities are
    exact, propensities sum to 1, rows are decided alone.

    Args:
        policy: is asked about changed copies of `observation`, many times.
        observation: of at least 4 customers with at least 6 candidates; by default of a shop with 30 items.
    """
    o = observation if observation is not None else _shop_customers()
    _require(isinstance(policy.name, str) and policy.name, "name", "it is empty")
    closed = np.random.default_rng(0).random(o.actions.mask.shape) < 0.5
    closed[:, :3] = False
    for mask in (o.actions.mask, np.where(closed, 0, o.actions.mask).astype(np.int8)):
        _check_choice(policy, with_mask(o, mask))
    nothing, none = policy.act(with_mask(o, np.zeros(o.actions.mask.shape, np.int8)), np.random.default_rng(0))
    _require((nothing == -1).all() and not none.any(), "nothing allowed", "position -1 and propensity 0 are due where all are masked")
    few = np.array(o.actions.mask)
    few[:, np.arange(few.shape[1]) % max(few.shape[1] // 5, 1) != 0] = 0
    for row in range(3):
        _check_propensities(policy, with_mask(o, few), row)


def _shop_customers() -> Observation:
    engine = make_engine("shop", n_items=30, window=10)
    observation = engine.reset(0, 16)
    for step in range(3):
        observation = engine.step(_actions(engine, observation, step)).obs
    return observation


def _check_choice(policy: Policy, o: Observation) -> None:
    before = [np.array(part) for part in arrays_of(o)]
    actions, propensity = policy.act(o, np.random.default_rng(1))
    _require(_equal(before, arrays_of(o)), "observation untouched", "act changed it")
    n, k = o.actions.mask.shape
    for array, dtype, name in ((actions, np.int64, "actions"), (propensity, np.float64, "propensities")):
        _require(array.dtype == dtype and array.ndim in (1, 2) and len(array) == n, "actions", f"{name} are {array.dtype} {array.shape}")
    _require(actions.shape == propensity.shape, "actions", f"shapes {actions.shape} and {propensity.shape} differ")
    slate = actions.reshape(n, -1)
    chosen = slate >= 0
    _require(((slate >= -1) & (slate < k)).all(), "actions", f"a position outside 0..{k - 1}")
    legal = np.take_along_axis(o.actions.mask * (o.actions.candidates > 0), np.maximum(slate, 0), axis=1) > 0
    _require(legal[chosen].all(), "masks", "a masked candidate was shown")
    ordered = np.sort(slate, axis=1)
    _require(not ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(), "actions", "an item twice in a slate")
    p = propensity.reshape(n, -1)
    _require(((p[chosen] > 0) & (p[chosen] <= 1 + 1e-12)).all() and not p[~chosen].any(), "propensity range", "not in (0, 1]")
    np.random.seed(1)  # noqa: NPY002 - nobody may look at the global generator
    again = policy.act(o, np.random.default_rng(1))
    _require(_equal((actions, propensity), again), "same draw, same actions", "the same generator state gave other answers")


def _check_propensities(policy: Policy, o: Observation, row: int) -> None:
    """One decision made DRAWS times: the reported probability of each answer against how often it came."""
    candidates = np.repeat(o.actions.candidates[row : row + 1], DRAWS, axis=0)
    mask = np.repeat(o.actions.mask[row : row + 1], DRAWS, axis=0)
    copies = Observation(take_rows(o.state, np.full(DRAWS, row)), Actions(candidates, mask))
    actions, propensity = policy.act(copies, np.random.default_rng(row))
    slate, p = actions.reshape(DRAWS, -1), propensity.reshape(DRAWS, -1)
    groups = [np.arange(DRAWS)]
    for place in range(slate.shape[1]):
        largest = max(groups, key=len)  # those who share the items above this place
        groups = [largest[slate[largest, place] == position] for position in np.unique(slate[largest, place])]
        if slate[groups[0][0], place] < 0:
            return
        total = 0.0
        for group in groups:
            told, share = p[group[0], place], len(group) / len(largest)
            _require(np.ptp(p[group, place]) <= 1e-12, "propensities are exact", "the same answer to the same question had several")
            error = (told * (1 - told) / len(largest)) ** 0.5
            what = f"place {place}: an answer of propensity {told:.4f} came in {share:.4f} of {len(largest)} draws"
            _require(abs(share - told) <= SIGMAS * error + 2 / len(largest), "propensities are exact", what)
            total += told
        _require(total <= 1 + 1e-9, "propensities sum to 1", f"place {place}: the answers seen have {total:.6f} together")
        missed = 60 / len(largest)  # what few answers that never came can have together
        _require(total > 1 - missed, "propensities sum to 1", f"place {place}: the answers seen have only {total:.6f} together")
    whole, told_whole = policy.act(o, np.random.default_rng(row))
    first, told_first = whole.reshape(len(whole), -1)[row, 0], told_whole.reshape(len(whole), -1)[row, 0]
    alone = p[slate[:, 0] == first, 0]
    _require(not len(alone) or np.isclose(alone[0], told_first, rtol=1e-5), "rows are decided alone", "company changes a propensity")


# samplers


def check_sampler(sampler: Sampler, population: IntArray, weights: FloatArray | None = None) -> None:
    """A replay sampler: indices of transitions, each as often as it should.

    Rules: indices, same draw same sample, only what may be drawn, as often as promised.

    Args:
        population: int64 [P], distinct: every index that may be drawn.
        weights: [P], how often in relation to the others; None = uniform.
    """
    for size in (1, 7, 256, len(population) + 3):
        _array(sampler.sample(np.random.default_rng(size), size).index, (size,), np.int64, "indices", f"sample(rng, {size})")
    one, other = (sampler.sample(np.random.default_rng(9), 64).index for _ in range(2))
    _require(np.array_equal(one, other), "same draw, same sample", "the same generator state gave other indices")
    drawn = sampler.sample(np.random.default_rng(2), 40 * len(population)).index
    _require(np.isin(drawn, population).all(), "only what may be drawn", f"{np.setdiff1d(drawn, population)[:3]} came")
    share = np.ones(len(population)) if weights is None else np.asarray(weights, np.float64)
    expected = share / share.sum() * len(drawn)
    count = (np.sort(drawn).searchsorted(population, "right") - np.sort(drawn).searchsorted(population)).astype(np.float64)
    chi = float(((count - expected) ** 2 / np.maximum(expected, 1e-9)).sum())
    limit = len(population) + SIGMAS * (2 * len(population)) ** 0.5 + SIGMAS**2
    _require(chi <= limit, "as often as promised", f"chi-square {chi:.0f} with {len(population)} indices, at most {limit:.0f}")


# estimators


def check_estimator(estimator: Estimator, n: int = 20_000) -> None:
    """An off-policy estimator: per-sample contributions whose mean is the new policy's value.

    Rules: contributions, arguments untouched, same arrays same contributions, order does not matter, on-policy mean, mean.

    Args:
        estimator: (reward, logged propensity, probability under the new policy) -> contributions, each float64 [n]. One
            that needs more (a reward model) is given as a function that knows it.
        n: samples of the bandit it is tried on: 4 actions, weights of at most 2.8.
    """
    rng = np.random.default_rng(3)
    logged, new, worth = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.42, 0.28]), np.array([0.1, 0.4, 0.5, 0.9])
    action = rng.choice(4, n, p=logged)
    arrays = ((rng.random(n) < worth[action]).astype(np.float64), logged[action], new[action])
    before = [array.copy() for array in arrays]
    out = estimator(*arrays)
    _array(out, (n,), np.float64, "contributions", "the result")
    _require(np.isfinite(out).all(), "contributions", "not finite")
    _require(_equal(before, arrays), "arguments untouched", "an array was changed")
    _require(np.array_equal(out, estimator(*arrays)), "same arrays, same contributions", "two calls differ")
    turned = rng.permutation(n)
    _require(np.allclose(estimator(*(a[turned] for a in arrays)), out[turned]), "order does not matter", "contributions follow positions")
    same = float(estimator(arrays[0], arrays[1], arrays[1]).mean())
    _require(abs(same - arrays[0].mean()) < 1e-9, "on-policy mean", f"{same:.6f} where the log's own mean is {arrays[0].mean():.6f}")
    truth, error = float(new @ worth), float(out.std() / n**0.5)
    _require(abs(out.mean() - truth) <= SIGMAS * error + 1e-9, "mean", f"{out.mean():.4f} +- {error:.4f} where the value is {truth:.4f}")


# stores


def check_store(open_store: OpenStore) -> None:
    """A store of the service: nothing acknowledged is lost, nothing counts twice, the order is that of arrival.

    Rules: acknowledged, event ids count once, sequence, arrival order, window, types, shown rows, answers follow questions, other
    customers, durable.

    Args:
        open_store: opens the store, empty at first, on the same data whenever it is called.
    """
    store = _Opened(open_store)
    try:
        store.write(_event("a", 30), _event("b", 10), _event("a", 99, item="other"))
        _require(store.seqs == sorted(set(store.seqs)) and len(store.seqs) == 2, "event ids count once", f"{store.seqs} for a, b, a")
        store.write(_event("b", 10), _event("c", 40, kind="purchase"), _event("x", 5, user="v"))
        _require(len(store.seqs) == 4, "event ids count once", "b came again in a later batch")
        as_of = store.store.last_seq
        store.write(decision=DecisionRow("d", "u", None, 50, as_of, '["i2"]', "[1.0]", None, "p", "m", None, None, None))
        store.write(_event("e", 20, decision="d"), _event("f", 60, kind="unheard of", item=None))
        _require(store.seqs == sorted(set(store.seqs)), "sequence", f"numbers do not rise: {store.seqs}")
        expected = [(30, "click", "i1"), (10, "click", "i1"), (40, "purchase", "i1"), (50, "shown", "i2"), (51, "click", "i1")]
        _check_histories(store.store, expected)
        last = store.store.last_seq
    finally:
        store.store.close()
    store = _Opened(open_store)
    try:
        _require(store.store.last_seq == last, "durable", f"the newest number was {last}, after reopening {store.store.last_seq}")
        try:
            _check_histories(store.store, expected)
        except AssertionError as error:
            raise AssertionError(f"durable: after reopening, {error}") from None
        store.write(_event("a", 1), _event("g", 70))
        _require(len(store.seqs) == 1, "event ids count once", "a came again after reopening")
        _require(store.seqs[0] > last, "sequence", f"{store.seqs[0]} after reopening, {last} before")
    finally:
        store.store.close()


def _check_histories(store: EventStore, expected: list[tuple[int, str, str]]) -> None:
    types = ["click", "purchase"]

    def rows(user: str, window: int, types: list[str], shown: bool) -> list[tuple[int, str, str | None]]:
        return [(row.timestamp_us, row.type, row.item_id) for row in store.history(user, window, types, shown)[0]]

    got = rows("u", 10, types, True)
    _require(sorted(got, key=str) != sorted(expected, key=str) or got == expected, "arrival order", f"{got}")
    _require([row for row in got if row[1] == "shown"] == [(50, "shown", "i2")], "shown rows", f"{got}")
    _require((51, "click", "i1") in got, "answers follow questions", f"an event at 20 names a decision at 50: {got}")
    _require(all(row[1] != "unheard of" for row in got), "types", f"{got}")
    _require(got == expected, "acknowledged", f"{got} where {expected} was written")
    _require(rows("u", 2, types, True) == expected[-2:], "window", "the newest rows are due")
    _require(rows("u", 10, ["purchase"], False) == [expected[2]], "types", "only purchases were asked for")
    _require(rows("v", 10, types, True) == [(5, "click", "i1")] and rows("nobody", 10, types, True) == [], "other customers")


class _Opened:
    """A store whose commits are waited for; `seqs`: numbers given to new rows, in order."""

    def __init__(self, open_store: OpenStore) -> None:
        self.seqs: list[int] = []
        self.store = open_store(self._finished)

    def _finished(self, writes: list[Write], last_seq: int) -> None:
        for write in writes:
            write.waiter.set()

    def write(self, *events: EventRow, decision: DecisionRow | None = None) -> None:
        write = Write(events, decision, waiter=threading.Event())
        self.store.submit(write)
        _require(write.waiter.wait(10), "acknowledged", "no word within 10 s")
        _require(write.error is None, "acknowledged", str(write.error))
        self.seqs += [write.decision_seq] if decision is not None else []
        self.seqs += [seq for seq, _ in write.stored]


def _event(
    event_id: str, time_us: int, user: str = "u", kind: str = "click", item: str | None = "i1", decision: str | None = None
) -> EventRow:
    return EventRow(event_id, user, item, kind, time_us, 1_000, None, None, decision, None)
