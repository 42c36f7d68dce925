"""What is in a dataset, and whether it needs reinforcement learning at all.

The question: does the item shown today change the reward of later decisions? If not, a policy that maximises the
present reward is already optimal. The answer is a permutation test: what was shown is permuted among decisions that
were alike, and the share of later reward that it explains is compared with what chance explains.

*logged*: alike = the same logged probability and a similar state, which makes it a conditional randomisation test.
*exposure*: alike = a similar state; assumes that nothing hidden drives both the choice and the later reward. (Comparing
a customer only with himself would not do: the mean of his items contains the later ones, which earn the later reward.)
*organic*: customers chose and nothing was assigned: the test is inconclusive.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.events.titles import titles
from qurate.mdp.states import gather_state
from qurate.mdp.storage import Dataset
from qurate.types import CENSORED, CONTINUES, FloatArray, IntArray

INCONCLUSIVE = "cannot be told"
"""The third answer, as the contract words it."""
HORIZON = 10
"""Later decisions whose reward counts as later reward."""
GAMMA = 0.9
"""Their discount per decision; across a pause exp(-pause / tau) besides."""
MAX_DECISIONS = 80_000
"""Decisions used at most, drawn with the seed."""
MIN_DECISIONS = 500
"""With fewer usable decisions the answer is inconclusive."""
FEATURES = 32
"""Item features used at most: those that vary most."""
SWAPS = 12
"""Rounds of swaps behind one permutation where items end."""
WINDOW = 10
MOST_SEEN = 5
VARIED = 0.05
"""Least share of decisions that earn something else than the most common reward."""
ALPHA = 0.01
"""p-value below which "yes"; the larger error would be to plan where there is nothing to plan."""
NEGLIGIBLE_RATIO = 0.2
"""Later effects below this share of the present effect are not worth planning for."""

Rows = NDArray[np.float64]

LOG_INSTEAD = "log what was shown, to whom and when, with the probability of each item and at least 5 % chosen at random"


@dataclass(frozen=True, slots=True)
class _Sample:
    """n decisions with a completely observed future."""

    state: IntArray  # [n]
    now: Rows  # [n] reward of the decision
    later: Rows  # [n] discounted reward of the next HORIZON decisions
    recent: NDArray[np.integer]  # [n, WINDOW] last items of the history
    covariates: Rows  # [n, C] of the state
    stratum: IntArray  # [n]
    user: NDArray[np.int32]  # [n]
    clock: IntArray  # [n] microseconds
    begin: IntArray  # [n] microseconds from which all that the decision showed was available
    end: IntArray  # [n] microseconds until which it was


def inspect(dataset: Dataset, seed: int = 0, permutations: int = 120) -> dict[str, Any]:
    """What is in the dataset and whether it needs RL.

    Args:
        dataset: a built or read dataset.
        seed: of the sample and of the permutations.
        permutations: of the test; the least p-value is 1 / (permutations + 1).

    Returns:
        {"events", "users", "items", "types", "time", "kind", "needs_rl": yes | no | cannot be told, "sentence", "evidence"}.
    """
    counts, arrays = dataset.manifest["counts"], dataset.arrays
    kinds = np.bincount(arrays.type, minlength=len(dataset.vocabulary.types) + 1)[1:]
    answer, sentence, evidence = _needs_rl(dataset, np.random.default_rng(seed), permutations)
    return {
        "events": counts["events"],
        "users": counts["users"],
        "items": counts["items"],
        "types": {name: int(n) for name, n in zip(dataset.vocabulary.types, kinds, strict=True)},
        "time": _time(dataset),
        "kind": dataset.kind,
        "needs_rl": answer,
        "sentence": sentence,
        "evidence": evidence,
    }


def most_seen(dataset: Dataset) -> list[dict[str, Any]]:
    """The items with most rows of history: id, title where there is one, rows."""
    rows, names = np.bincount(dataset.arrays.item, minlength=dataset.vocabulary.n_items + 1)[1:], titles(dataset.items, dataset.item_spec)
    best = np.argsort(-rows, kind="stable")[:MOST_SEEN]
    ids = [dataset.vocabulary.items[i] for i in best]
    return [{"item_id": item, "title": names.get(item), "events": int(rows[i])} for item, i in zip(ids, best)]


def _time(dataset: Dataset) -> dict[str, Any]:
    times = np.concatenate([dataset.arrays.time, dataset.transitions.clock])
    first, last = int(times.min()), int(times.max())
    days = (last - first) / 86_400e6
    if dataset.manifest["time_unit"] == "order":
        return {"first": None, "last": None, "days": None, "unit": "order"}
    texts = [datetime.fromtimestamp(us / 1e6, UTC).isoformat() for us in (first, last)]
    return {"first": texts[0], "last": texts[1], "days": round(days, 3), "unit": dataset.manifest["time_unit"]}


def _needs_rl(dataset: Dataset, rng: np.random.Generator, permutations: int) -> tuple[str, str, dict[str, Any]]:
    cannot = INCONCLUSIVE
    if dataset.kind == "organic":
        said = f"This log says what customers chose, not what was shown: what another item would have changed is unknown; {LOG_INSTEAD}."
        return cannot, said, {"method": "none: organic log"}
    sample = _sample(dataset, rng)
    n = len(sample.state)
    if n < MIN_DECISIONS:
        said = f"Only {n} decisions have a successor whose rewards were observed; {MIN_DECISIONS} are needed."
        return cannot, said, {"method": "none: too few decisions", "decisions": n}
    _, often = np.unique(np.round(sample.now, 9), return_counts=True)
    if often.max() > (1 - VARIED) * n and dataset.kind != "logged":
        said = "Nearly every decision of this log earned the same, as if only answered ones were kept: the others are needed too."
        return cannot, said, {"method": "none: rewards do not differ", "decisions": n}
    if np.ptp(sample.later) == 0:
        return (
            cannot,
            "No decision of this log was followed by a different reward.",
            {"method": "none: later reward constant", "decisions": n},
        )
    evidence = _test(dataset, sample, rng, permutations)
    return *conclude(evidence), evidence


def conclude(evidence: Mapping[str, Any]) -> tuple[str, str]:
    """The answer (yes, no, cannot be told) and its sentence.

    Args:
        evidence: of the test: `method`, `p_value`, and `later_to_now`, `detectable_later_to_now` as shares of the present effect.
    """
    p, ratio, detectable = evidence["p_value"], evidence["later_to_now"], evidence["detectable_later_to_now"]
    logged = evidence["method"] == "conditional randomisation"
    assumes = "" if logged else " (assuming that nothing hidden drives both what was shown and what followed)"
    if p <= ALPHA and ratio >= NEGLIGIBLE_RATIO / 4:
        return "yes", f"What is shown now changes what later decisions earn (p = {p:.3g}){assumes}: planning ahead can pay off."
    if p <= ALPHA:
        said = f"What is shown now changes later rewards only by {ratio:.1%} of what it changes at once{assumes}"
        return "no", f"{said}: a myopic policy is enough."
    if detectable < NEGLIGIBLE_RATIO:
        said = f"What is shown now changes later rewards by less than {detectable:.0%} of what it changes at once{assumes}"
        return "no", f"{said}: a myopic policy is enough."
    said = f"No effect on later rewards was found (p = {p:.3g}), but {detectable:.0%} of the present effect could have been missed"
    return INCONCLUSIVE, said + ("; a longer log is needed." if logged else f"; {LOG_INSTEAD}.")


def _sample(dataset: Dataset, rng: np.random.Generator) -> _Sample:
    """Decisions whose next HORIZON decisions were observed, or ended for good."""
    steps = dataset.transitions
    states, first = len(steps.history_end), np.searchsorted(steps.state, np.arange(len(steps.history_end)))
    reward = np.bincount(steps.state, steps.reward @ dataset.weights.astype(np.float64), states).astype(np.float64)
    tau_s = dataset.manifest["episode"]["tau_s"]
    later, known = later_rewards(reward, steps.next_state[first], steps.end[first], steps.pause[first].astype(np.float64), tau_s)
    usable = np.flatnonzero(known)
    if len(usable) > MAX_DECISIONS:
        usable = np.sort(rng.choice(usable, MAX_DECISIONS, replace=False))
    clock, user = steps.clock[usable], steps.user[usable]
    lo = dataset.arrays.user_start[user]
    window = gather_state(dataset.arrays, lo, steps.history_end[usable], clock, WINDOW, dataset.user_features[user])
    earned = _earned_before(dataset, reward, usable)
    covariates = _covariates(dataset, window.context, window.user, earned, usable)
    propensity = steps.propensity[first[usable]].astype(np.float64)
    stratum = strata(window.context[:, 0], earned, propensity) if len(usable) else np.empty(0, np.int64)
    opens, ends = _available_together(dataset, usable)
    return _Sample(usable, reward[usable], later[usable], window.history_items, covariates, stratum, user, clock, opens, ends)


def _available_together(dataset: Dataset, states: IntArray) -> tuple[IntArray, IntArray]:
    """[n] from when and until when all items shown in a decision were available."""
    steps, availability = dataset.transitions, dataset.availability
    first = np.searchsorted(steps.state, np.arange(len(steps.history_end)))
    begin = np.maximum.reduceat(availability.since[steps.action], first)
    return begin[states], np.minimum.reduceat(availability.until[steps.action], first)[states]


def later_rewards(
    reward: Rows, following: NDArray[np.integer], end: NDArray[np.integer], pause: Rows, tau_s: float
) -> tuple[Rows, NDArray[np.bool_]]:
    """Discounted reward of the next HORIZON decisions [D], and whether all of them were observed or the episode ended.

    Args:
        reward: [D] of each decision.
        following: [D] the next decision, -1 where none.
        end: [D] CONTINUES | TERMINATED | CENSORED.
        pause: [D] seconds to the next decision where it belongs to another visit, else 0.
        tau_s: seconds of pause over which a later reward falls to 1/e.
    """
    discount = np.where(end == CONTINUES, GAMMA * np.exp(-pause / tau_s), 0.0)
    later, known = np.zeros(len(reward)), np.ones(len(reward), bool)
    for _ in range(HORIZON):
        later = discount * (reward[following] + later[following])
        known = np.where(end == CONTINUES, known[following], end != CENSORED)
    return later, known


def _earned_before(dataset: Dataset, reward: Rows, states: IntArray) -> Rows:
    """[n] mean reward of the customer's earlier decisions, with five decisions of reward 0 in front."""
    steps = dataset.transitions
    total = np.concatenate([[0.0], np.cumsum(reward)])
    begin = np.searchsorted(steps.user, steps.user[states])
    return np.asarray((total[states] - total[begin]) / (states - begin + 5.0))


def _covariates(dataset: Dataset, context: FloatArray, user: FloatArray, earned: Rows, states: IntArray) -> Rows:
    """[n, C] what may drive both the choice and the later reward: place in the visit, last pause, habits, features, day."""
    steps = dataset.transitions
    before = states - np.searchsorted(steps.user, steps.user[states])
    day = (steps.clock[states] - steps.clock.min()) / 86_400e6
    hour = 2 * np.pi * (day % 1)
    columns = [
        context,
        user[:, :FEATURES],
        earned[:, None],
        np.log1p(before)[:, None],
        day[:, None],
        np.sin(hour)[:, None],
        np.cos(hour)[:, None],
    ]
    return np.concatenate(columns, axis=1, dtype=np.float64)


def strata(log_rows: NDArray[np.floating], earned: Rows, propensity: Rows) -> IntArray:
    """[n] number of the group of decisions that are alike: place in the visit, earnings so far, logged probability to 5 %.

    Args:
        log_rows: [n] log1p of the rows of the visit so far.
        earned: [n] mean reward so far; its quintiles count.
        propensity: [n], NaN where not logged: such decisions are alike in that.
    """
    visit = np.minimum(np.floor(log_rows / np.log(2)), 4)
    fifth = np.searchsorted(np.quantile(earned, [0.2, 0.4, 0.6, 0.8]), earned)
    chance = np.nan_to_num(np.round(np.log(propensity) / 0.05), nan=1.0)
    _, stratum = np.unique(np.stack([visit, fifth, chance], axis=1), axis=0, return_inverse=True)
    return stratum.reshape(-1).astype(np.int64)


def _test(dataset: Dataset, sample: _Sample, rng: np.random.Generator, permutations: int) -> dict[str, Any]:
    """Share of later reward that what was shown explains, against permutations within the strata."""
    n, centre = len(sample.state), _Centre(sample.stratum)
    describe, habits = _describer(dataset, sample)
    drivers = np.concatenate([sample.covariates, habits], axis=1)
    drivers = centre((drivers - drivers.mean(axis=0)) / np.maximum(drivers.std(axis=0), 1e-9))
    left, scale, _ = np.linalg.svd(drivers, full_matrices=False)
    base = left[:, scale > 1e-6 * max(scale[0], 1e-300)]
    later, now = (_residual(base, centre(column[:, None])) for column in (sample.later, sample.now))
    null = np.empty(permutations)
    for i in range(permutations):
        other = _swapped(sample, rng) if dataset.availability.ends else _permuted(sample.stratum, rng)
        null[i] = _explained(_residual(base, centre(describe(other))), later)[0]
    columns = _residual(base, centre(describe(np.arange(n))))
    share, width = _explained(columns, later)
    at_once, _ = _explained(columns, now)
    noise = float(null.mean())
    effect = np.sqrt(max(share - noise, 0.0) * later.var())
    present = np.sqrt(max(at_once - noise, 1e-12) * now.var())
    # Twice what chance reaches in 1 of 20 cases: an effect of that size is found in most logs like this one.
    detectable = np.sqrt(2 * max(float(np.quantile(null, 0.95)) - noise, 0.0) * later.var())
    return {
        "method": "conditional randomisation" if _logged(dataset) else "stratified permutation",
        "decisions": n,
        "strata": len(centre.size),
        "horizon_decisions": HORIZON,
        "gamma": GAMMA,
        "descriptors": width,
        "permutations": permutations,
        "p_value": float((1 + np.count_nonzero(null >= share)) / (1 + permutations)),
        "later_explained": share,
        "explained_by_chance": noise,
        "now_effect": float(present),
        "later_effect": float(effect),
        "later_to_now": float(effect / present),
        "detectable_later_to_now": float(detectable / present),
    }


def _logged(dataset: Dataset) -> bool:
    return dataset.kind == "logged" and bool(np.isfinite(dataset.transitions.propensity).all())


def _permuted(stratum: IntArray, rng: np.random.Generator) -> IntArray:
    """[n] decision whose items each decision shows instead: shuffled within strata."""
    other = np.empty(len(stratum), np.int64)
    other[np.argsort(stratum, kind="stable")] = np.lexsort((rng.random(len(stratum)), stratum))
    return other


def _swapped(sample: _Sample, rng: np.random.Generator) -> IntArray:
    """[n] the same where items end: no decision gets items that were not available at its time.

    Pairs of a stratum swap what they showed if both could have shown the other's (Berrett, Wang, Barber and Samworth
    2020, the conditional permutation test). Partners are drawn from all times first and from ever nearer ones, because
    items that live shortly can only swap within their time. Too few swaps make the test miss effects, not invent them.
    No decision gets what the same customer saw at another one, which stands in the history, nor what the other half of
    the customers saw, which a table describes that knows this customer's rewards.
    """
    n = len(sample.state)

    def fits(items: IntArray, at: IntArray) -> NDArray[np.bool_]:
        is_open = (sample.begin[items] <= sample.clock[at]) & (sample.clock[at] < sample.end[items])
        apart = sample.user[items] - sample.user[at]
        return np.asarray(is_open & (((apart != 0) & (apart % 2 == 0)) | (items == at)))

    other, place = np.arange(n), np.argsort(np.argsort(sample.clock, kind="stable"))
    for scale in range(SWAPS):
        order = np.lexsort((place + n * 0.5**scale * rng.random(n), sample.stratum))
        left, right = order[0 : n - 1 : 2], order[1:n:2]
        mine, theirs = other[left], other[right]
        swaps = (sample.stratum[left] == sample.stratum[right]) & fits(theirs, left) & fits(mine, right)
        other[left[swaps]], other[right[swaps]] = theirs[swaps], mine[swaps]
    return other


class _Centre:
    """Subtracts the mean of the stratum from each column."""

    def __init__(self, stratum: IntArray) -> None:
        self.stratum = stratum
        self.size = np.bincount(stratum).astype(np.float64)

    def __call__(self, columns: Rows) -> Rows:
        means = np.stack([np.bincount(self.stratum, column) / self.size for column in columns.T], axis=1)
        return np.asarray(columns - means[self.stratum])


def _residual(base: Rows, columns: Rows) -> Rows:
    return np.asarray(columns - base @ (base.T @ columns))


def _explained(columns: Rows, target: Rows) -> tuple[float, int]:
    """R squared of the target [n, 1] on the columns [n, F], and the rank used."""
    gram = columns.T @ columns
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-9 * max(values[-1], 1e-300)
    along = (vectors[:, kept].T @ (columns.T @ target))[:, 0] ** 2 / values[kept]
    total = float((target**2).sum())
    return (float(along.sum()) / total if total > 0 else 0.0), int(kept.sum())


def _describer(dataset: Dataset, sample: _Sample) -> tuple[Callable[[IntArray], Rows], Rows]:
    """What decisions would have been like, had decision i shown what `other[i]` showed: a function to [n, F].

    The second value, [n, C], is what of these descriptions comes from the customer's history alone.
    """
    steps, tables = dataset.transitions, item_tables(dataset)
    half = steps.user % 2  # what items usually earn is taken from the other half of the customers
    size = np.diff(np.searchsorted(steps.state, np.arange(len(steps.history_end) + 1)))
    seen = tables[half[steps.state], steps.action]
    of_state = np.stack([np.bincount(steps.state, column, len(size)) / size for column in seen.T], axis=1)
    of_state -= of_state[sample.state].mean(axis=0)
    shown, first = of_state[sample.state], steps.action[np.searchsorted(steps.state, sample.state)]
    past = sample.recent > 0
    known = tables[half[sample.state][:, None], sample.recent]
    recent = (known * past[:, :, None]).sum(axis=1) / np.maximum(past.sum(axis=1), 1)[:, None]

    def describe(other: IntArray) -> Rows:
        again = (sample.recent == first[other][:, None]).sum(axis=1)
        like = (shown[other] * recent).sum(axis=1)
        return np.concatenate([shown[other], again[:, None], like[:, None]], axis=1)

    share = np.bincount(steps.action, minlength=tables.shape[1]) / len(steps.action)
    share[0] = 0.0
    return describe, np.concatenate([recent, share[sample.recent].sum(axis=1)[:, None]], axis=1)


def item_tables(dataset: Dataset) -> Rows:
    """[2, N + 1, F] what an item is like: its features, how often it was shown, and what it usually earned at once.

    Table h knows only the customers of the other half, so that a customer's mood cannot describe the items shown in it.
    """
    steps, entries = dataset.transitions, len(dataset.item_features)
    worth = steps.reward @ dataset.weights.astype(np.float64)
    features = dataset.item_features.astype(np.float64)
    features = features[:, np.sort(np.argsort(-features[1:].var(axis=0), kind="stable")[:FEATURES])]
    tables = []
    for half in (0, 1):
        others = steps.user[steps.state] % 2 != half
        shown = np.bincount(steps.action[others], minlength=entries).astype(np.float64)
        earned = np.bincount(steps.action[others], worth[others], entries) + 20 * worth.mean()
        table = np.concatenate([features, np.log1p(shown)[:, None], (earned / (shown + 20))[:, None]], axis=1)
        table = (table - table[1:].mean(axis=0)) / np.maximum(table[1:].std(axis=0), 1e-9)
        table[0] = 0.0
        tables.append(table)
    return np.stack(tables)
