"""A model on a dataset's later time, or in a simulated world, as the contract's evaluate JSON.

Ranking metrics say how often a policy's order agrees with what customers then chose. On organic logs they say nothing
about value, and the result carries that sentence. Rollouts and off-policy estimators measure value.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qurate.errors import Code, UserError
from qurate.evaluation.compare import Runs
from qurate.evaluation.intervals import Interval, percentile, student_t, sum_by_user, user_bootstrap
from qurate.evaluation.lists import chosen_in_training, list_figures, segments
from qurate.evaluation.ranking import Ranked, RankingData, draw_visits, gains, had_before, observations, rank_all, ranking_targets
from qurate.evaluation.returns import returns_of
from qurate.events.sorted_rows import sorting_said, ties_said
from qurate.types import SESSION_GAP_US, FloatArray, IntArray, Scorer

CAPTIONS = {
    "organic": "agreement with what was chosen, not value",
    "exposure": "agreement with what was answered among what was shown, not value",
    "logged": "agreement with what was answered among what was shown, not value",
}
"""What ranking figures may claim, by kind of log."""

Entry = dict[str, Any]

ALL, OPEN, FIRST, REPEAT, IN_VISIT, _TYPE, _SEGMENT = "all", "open", "first_choices", "repeats", "in_visit", "type:", "segment:"
"""Groups of targets: every one, those among the open candidates, items the customer had no event with before, the others, where
candidates are shortlists those chosen within the visit under way, those that earned a reward component, and segments
(`lists.segments`)."""

ALIKE = "shown_alike"
"""The group in which each answer counts by 1 / the propensity of what was answered. A log answers most about what it shows most, so
that whoever imitates it agrees best; this estimates the agreement as if everything had been shown equally often (self-normalised
importance sampling, as in Swaminathan and Joachims 2015)."""


class Targets:
    """T test targets grouped by user and by reward component, shared by all scorers."""

    def __init__(
        self, data: RankingData, rows: IntArray, found: NDArray[np.bool_], draws: int, seed: int, discount: tuple[float, float] | None
    ) -> None:
        t = data.transitions
        _, self.user = np.unique(t.user[t.state[rows]], return_inverse=True)
        self.users, self.draws, self.seed = int(self.user.max()) + 1, draws, seed
        earned = t.reward[rows] > 0
        self.worth = (t.reward[rows] @ np.asarray(data.weights, np.float32)).astype(np.float64)
        self.returns = None if discount is None else returns_of(t, rows, data.weights, *discount)
        self.groups: dict[str, NDArray[np.bool_] | NDArray[np.float64]] = {ALL: np.ones(rows.size, bool), OPEN: found}
        again = had_before(data, rows)
        self.groups |= {FIRST: ~again, REPEAT: again}
        if data.lists is not None:  # the clock of a visit's first choice is the end of the visit before, and so are its counters
            chosen_at = data.arrays.time[t.history_end[t.state[rows]]]
            self.groups |= {IN_VISIT: chosen_at - t.clock[t.state[rows]] < SESSION_GAP_US}
        self.groups |= {_TYPE + name: earned[:, j] for j, name in enumerate(data.components) if earned[:, j].any()}
        self.groups |= {_SEGMENT + name: group for name, group in segments(t, rows).items() if group.any()}
        if (shares := _by_propensity(data, rows)) is not None:
            self.groups[ALIKE] = shares
        self.chosen = chosen_in_training(t, data.weights, len(data.availability.since) - 1)
        self.item_features = data.item_features
        self.counts = sum_by_user(self.user, self.users, np.stack(list(self.groups.values())).astype(np.float64))

    def measure(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means [M, G] and paired bootstrap draws [B, M, G] of M metrics' values [M, S, T], for every group of targets."""
        groups = list(self.groups.values())
        sums = np.stack([sum_by_user(self.user, self.users, seeds * group) for seeds in values for group in groups])
        counts = np.tile(self.counts, (len(values), 1))
        shape = (len(values), len(groups))
        total = counts.sum(axis=1)
        means = (sums.sum(axis=2).mean(axis=1) / np.where(total > 0, total, np.nan)).reshape(shape)
        return means, user_bootstrap(sums, counts, self.draws, self.seed).reshape(-1, *shape)


def _by_propensity(data: RankingData, rows: IntArray) -> NDArray[np.float64] | None:
    """[T] 1 / propensity; None where none was logged, or all are equal."""
    chance = data.transitions.propensity[rows].astype(np.float64)
    if data.manifest["kind"] != "logged" or not (chance > 0).all() or np.ptp(chance) < 1e-3 * chance.max():
        return None
    out: NDArray[np.float64] = 1.0 / chance
    return out


class Measured:
    """One scorer's metrics for every group, with the draws that lifts are made of."""

    def __init__(self, runs: Sequence[Ranked], targets: Targets, k: int, opened: int) -> None:
        per_seed = [gains(run.ranks, k) for run in runs]
        for figures in per_seed:  # what the targets among the first k earned: where rewards differ, agreement is not all
            figures[f"value@{k}"] = figures[f"HR@{k}"] * targets.worth
            if targets.returns is not None:
                figures[f"return@{k}"] = figures[f"HR@{k}"] * targets.returns
        metrics = list(per_seed[0])
        means, draws = targets.measure(np.stack([np.stack([g[metric] for g in per_seed]) for metric in metrics]))
        self.draws = {metric: draws[:, i, 0] for i, metric in enumerate(metrics)}
        alike = [*targets.groups].index(ALIKE) if ALIKE in targets.groups else None
        self.alike_draws = None if alike is None else {metric: draws[:, i, alike] for i, metric in enumerate(metrics)}
        self.by_group: dict[str, Entry] = {
            group: {metric: percentile(float(means[i, j]), draws[:, i, j]).to_dict() for i, metric in enumerate(metrics)}
            for j, group in enumerate(targets.groups)
        }
        covered = float(np.mean([run.covered.sum() for run in runs])) / max(opened, 1)
        self.by_group[ALL][f"coverage@{k}"] = Interval(covered, math.nan, math.nan).to_dict()

        self.lists = list_figures(
            [run.lists for run in runs], targets.user, targets.chosen, targets.item_features, k=k, n_open=opened, draws=targets.draws,
            seed=targets.seed,
        )  # fmt: skip

    @property
    def total(self) -> Entry:
        return self.by_group[ALL]


def caption_of(data: RankingData) -> str:
    """What the figures may claim."""
    by, ties = (data.manifest.get(name) for name in ("sorted_by", "sorted_ties"))
    said = [*([] if by is None else [sorting_said(by)]), *([] if ties is None else [ties_said(ties)])]
    return "; ".join([CAPTIONS[data.manifest["kind"]], *said])


def by_group(measured: Measured, targets: Targets) -> dict[str, Any]:
    """The figures of the targets that were open, of first choices and repeats, and of those within a visit, each with its number."""
    return {
        name: {"n": int(targets.groups[name].sum()), **measured.by_group[name]}
        for name in (OPEN, FIRST, REPEAT, IN_VISIT)
        if name in targets.groups
    }


def by_segment(measured: Measured, targets: Targets) -> Entry:
    """The figures of each segment that has targets, with its number."""
    names = [name for name in targets.groups if name.startswith(_SEGMENT)]
    return {name.removeprefix(_SEGMENT): {"n": int(targets.groups[name].sum()), **measured.by_group[name]} for name in names}


def by_propensity(measured: Mapping[str, Measured], targets: Targets) -> dict[str, Any]:
    """`shown_alike`: of each ranking the figures where each answer counts by 1 / its propensity, and `effective`, how many answers of
    equal weight would tell as much; nothing where the log has no propensities, or all are equal."""
    weight = targets.groups.get(ALIKE)
    if weight is None:
        return {}
    effective = float(weight.sum() ** 2 / np.square(weight).sum())
    return {ALIKE: {name: {"effective": effective, **one.by_group[ALIKE]} for name, one in measured.items()}}


def evaluate_ranking(
    model: str, on: str, data: RankingData, scores: Mapping[str, Sequence[Scorer]], baselines: Mapping[str, Scorer], main: str = "q", *,
    k: int = 20, window: int = 50, visits: int | None = None, draws: int = 1_000, seed: int = 0,
    exclude: tuple[str, FloatArray] | None = None, discount: tuple[float, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Full ranking of the test split's rewarded items: the contract's evaluate JSON.

    Besides the contract's keys: `caption`, `k`, `users`, `seeds`, `missed` (share of targets that were not among the
    open candidates: new or unavailable items), `metrics["value@k"]` (HR@k with each target counted by the weighted reward it
    earned, reward units per target), with `discount` `metrics["return@k"]` (the same with the return that followed in the log),
    `open` (the main score on the other targets alone), `shown_alike` (`by_propensity`), `candidates` (mean
    number open), `segments` (`lists.segments`, each with its figures), `lists` (of the model and of each baseline: what stands on
    their lists, `lists.list_figures`), and `lift` (main score minus the best baseline, paired: by NDCG@k, or by the MRR of the list
    where lists were shown). Intervals: 95 %, bootstrap over users crossed with seeds.

    Args:
        model, on, data: name of the model, name of the data, and the dataset itself.
        scores: score name ("q", "q_in_support", "behaviour") to one scorer per training seed.
        baselines: name to scorer.
        main: the score whose figures are the model's.
        k: cut of HR, NDCG, MRR and coverage.
        window: history rows in a state, the model's own.
        visits: rank only this many visits, drawn with `seed`; None = all.
        draws, seed: number of bootstrap draws; seed of the drawing of visits and of the bootstrap.
        discount: per decision, and the time constant of pauses in seconds (`returns.returns_of`).
        exclude: name of the rule by which items are not shown again, and its `SeenRule.seconds`; holds for every scorer.

    Raises:
        UserError: unknown `main`, k < 1, or nothing to rank in the test split.
    """
    if main not in scores or k < 1:
        raise UserError(f"one of {', '.join(scores)} and k >= 1", f"{main} and {k}", where="evaluate", code=Code.BAD_EVALUATE)
    rows = ranking_targets(data) if visits is None else draw_visits(data, ranking_targets(data), visits, seed)
    own, others, n_open = _rank_each(data, rows, scores, baselines, k, window, None if exclude is None else exclude[1])
    found = own[main][0].ranks.ties > 0
    targets = Targets(data, rows, found, draws, seed, discount)
    measured = {name: Measured(runs, targets, k, n_open) for name, runs in own.items()}
    rivals = {name: Measured([run], targets, k, n_open) for name, run in others.items()}
    head = {"model": model, "on": on, "n": int(rows.size), "k": k, "users": targets.users, "seeds": len(scores[main])}
    return {
        **head,
        "metrics": measured[main].total,
        "by_type": by_type(measured[main], targets),
        "by_score": {name: m.total | _agreement(own, name) for name, m in measured.items()},
        "baselines": {name: m.total for name, m in rivals.items()},
        "caption": caption_of(data),
        "main": main,
        "missed": float(1.0 - found.mean()),
        **by_group(measured[main], targets),
        **by_propensity({model: measured[main], **rivals}, targets),
        "segments": by_segment(measured[main], targets),
        "lists": {model: measured[main].lists, **{name: m.lists for name, m in rivals.items()}},
        "exclude": "none" if exclude is None else exclude[0],
        "candidates": _open_per_target(data, rows),
        "lift": _lift(measured[main], rivals, "MRR" if len(data.transitions.candidates) else f"NDCG@{k}"),
    }


def _rank_each(
    data: RankingData,
    rows: IntArray,
    scores: Mapping[str, Sequence[Scorer]],
    baselines: Mapping[str, Scorer],
    k: int,
    window: int,
    within: FloatArray | None,
) -> tuple[dict[str, list[Ranked]], dict[str, Ranked], int]:
    """The targets ranked by every scorer in one pass: each score's seeds, each baseline, and the number of items ever open."""
    flat = {f"{name}/{i}": scorer for name, runs in scores.items() for i, scorer in enumerate(runs)}
    ranked, opened = rank_all(data, rows, flat | {f"baseline/{name}": s for name, s in baselines.items()}, k, window, within)
    own = {name: [ranked[f"{name}/{i}"] for i in range(len(runs))] for name, runs in scores.items()}
    return own, {name: ranked[f"baseline/{name}"] for name in baselines}, int(opened.sum())


def by_type(measured: Measured, targets: Targets) -> Entry:
    """The figures of the targets of each reward component."""
    names = [name for name in targets.groups if name.startswith(_TYPE)]
    return {name.removeprefix(_TYPE): {"n": int(targets.groups[name].sum()), **measured.by_group[name]} for name in names}


def _agreement(own: Mapping[str, Sequence[Ranked]], name: str) -> Entry:
    """How often this score's first choice is the behaviour head's: cross-entropy must not pose as Q-learning."""
    if "behaviour" not in own:
        return {}
    shares = [float((mine.first == theirs.first).mean()) for mine, theirs in zip(own[name], own["behaviour"], strict=True)]
    return {"first_choice_as_behaviour": float(np.mean(shares))}


SOME_LISTS = 2_000
"""Shortlists from which their mean length is taken."""


def _open_per_target(data: RankingData, rows: IntArray) -> float:
    """Mean number of open candidates."""
    t = data.transitions
    states = t.state[rows]
    if data.lists is not None:
        some = rows[:: max(1, rows.size // SOME_LISTS)]
        return float(np.concatenate([o.actions.mask.sum(1) for _, o in observations(data, some, 1)]).mean())
    listed = np.diff(t.candidates_start)[states] if t.candidates_start.size else np.zeros(rows.size, np.int64)
    return float(np.where(listed > 0, listed, data.availability.n_open(t.clock[states])).mean())


def _lift(mine: Measured, rivals: Mapping[str, Measured], metric: str) -> Entry | None:
    if not rivals:
        return None
    over = max(rivals, key=lambda name: float(rivals[name].total[metric]["mean"]))
    difference = mine.total[metric]["mean"] - rivals[over].total[metric]["mean"]
    return {"metric": metric, "over": over, **percentile(difference, mine.draws[metric] - rivals[over].draws[metric]).to_dict()}


ENV_METRICS = {"return": "return", "discounted": "discounted", "length": "visit_length", "decisions": "decisions", "visits": "visits"}
"""Metric names of an evaluation in a world, and the entry of `Rollout.summary` behind each."""


def evaluate_world(env: str, runs: Sequence[Runs], subject: str, gamma: float) -> dict[str, Any]:
    """The contract's evaluate JSON from rollouts in a world; intervals are Student t over seeds. `gamma`: of the discounted returns.

    `by_type` holds the reward components per customer before weighting; `n` counts customers over all seeds.

    Raises:
        UserError: `subject` is not among the runs.
    """
    judged = next((r for r in runs if r.contender.name == subject), None)
    if judged is None:
        raise UserError(
            "a policy of the comparison", subject, where="subject", hint=", ".join(r.contender.name for r in runs), code=Code.UNKNOWN_POLICY
        )
    names = judged.rollouts[0].component_names
    return {
        "model": subject,
        "on": env,
        "n": sum(int(r.returns.size) for r in judged.rollouts),
        "metrics": _world_metrics(judged),
        "by_type": {
            name: {"total": student_t([float(r.components[:, j].mean()) for r in judged.rollouts]).to_dict()}
            for j, name in enumerate(names)
        },
        "by_score": {},
        "baselines": {r.contender.name: _world_metrics(r) for r in runs if r is not judged},
        "caption": f"what simulated customers brought, per customer; discounted: by {gamma:g} per decision",
        "gamma": gamma,
        "seeds": len(judged.rollouts),
    }


def _world_metrics(runs: Runs) -> Entry:
    summaries = [r.summary() for r in runs.rollouts]
    return {metric: student_t([s[entry] for s in summaries]).to_dict() for metric, entry in ENV_METRICS.items()}
