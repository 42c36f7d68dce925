"""Several policies, the same customers, several seeds: means, intervals, paired lifts and a verdict.

A seed renews everything (training included), so the unit of the interval is the seed: Student t over seeds; a lift is
the paired difference over the best baseline with its own interval. Customers narrow each seed's number, never n.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qurate.errors import Code, UserError
from qurate.evaluation.intervals import Interval, number, paired_t, student_t
from qurate.evaluation.rollouts import Rollout, customers_seed, mean_over_seeds, rollout
from qurate.types import DEFAULT_TAU_S, Engine, Policy

Role = Literal["candidate", "baseline", "reference"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of a comparison.

    Args:
        name: of the row, unique.
        policy: gives the policy of a seed (trained anew for each where it learns); a reference reads the world that
            `engine` gave for that seed.
        role: "candidate" is judged, "baseline" is what it has to beat, "reference" sees what no policy can see
            (latent state) and is never the best baseline.
        steps_trained: decisions the policy learned from; 0 = it did not learn.
    """

    name: str
    policy: Callable[[int], Policy]
    role: Role = "baseline"
    steps_trained: int = 0


@dataclass(frozen=True, slots=True)
class Runs:
    """The rollouts of one contender, one per seed, in the order of the seeds."""

    contender: Contender
    rollouts: list[Rollout]

    def means(self) -> list[float]:
        """Mean undiscounted return per customer, for each seed."""
        return [float(r.returns.mean()) for r in self.rollouts]


def play(
    contenders: Sequence[Contender],
    engine: Callable[[int], Engine],
    seeds: Sequence[int],
    customers: int = 2_000,
    gamma: float = 0.9,
    tau: float = DEFAULT_TAU_S,
    trace: int = 3,
    max_decisions: int = 1_000,
) -> Iterator[tuple[int, str, Rollout]]:
    """Yields (seed, name, rollout) for every seed and contender; all contenders of a seed meet the same customers.

    Args:
        contenders: rows, with different names.
        engine: gives the world of a seed.
        seeds: at least one; five or more for a claim.
        customers: measured per seed and contender.
        gamma, tau: of the discounted return, see `rollout`.
        trace: customers of the first seed whose decisions are kept for the report.
        max_decisions: of a customer or episode, see `rollout`.
    """
    names = [c.name for c in contenders]
    if not seeds or len(set(names)) < len(names) or not names:
        raise UserError(
            "at least one seed and policies with different names", f"{len(seeds)} seeds, {names}", where="compare", code=Code.BAD_COMPARE
        )
    for place, seed in enumerate(seeds):
        world = engine(seed)
        for contender in contenders:
            result = rollout(
                world,
                contender.policy(seed),
                customers_seed(seed, "evaluate"),
                customers,
                gamma=gamma,
                tau=tau,
                trace=trace if place == 0 else 0,
                max_decisions=max_decisions,
                every_lane=contender.role == "reference",
            )
            yield seed, contender.name, result


def collect(contenders: Sequence[Contender], played: Iterator[tuple[int, str, Rollout]]) -> list[Runs]:
    """Runs of each contender from what `play` yields."""
    by_name: Mapping[str, list[Rollout]] = {c.name: [] for c in contenders}
    for _, name, result in played:
        by_name[name].append(result)
    return [Runs(c, by_name[c.name]) for c in contenders]


def summarise(env: str, seeds: Sequence[int], runs: Sequence[Runs], subject: str | None = None) -> dict[str, Any]:
    """The contract's compare JSON.

    Besides the contract's keys each policy carries `role`, `visits`, `decisions`, `discounted` and `components`, and
    the whole carries `subject` (the row judged; by default the first candidate, so that it is not chosen by its
    result), `sentence` (the verdict in words) and `headroom` (best reference minus the other reference, if two are given).
    `length` is decisions per visit. `verdict` is "better", "worse" or "not enough evidence": whether the 95 % interval
    of the subject's lift over the best baseline lies above, below or across 0.
    """
    baselines = [r for r in runs if r.contender.role == "baseline"]
    best = max(baselines, key=lambda r: math.fsum(r.means()), default=None)
    policies = [_row(r, best) for r in runs]
    judged = _subject(runs, best, subject)
    verdict, sentence = _verdict(judged, best, len(seeds))
    return {
        "env": env,
        "seeds": [int(s) for s in seeds],
        "customers": int(runs[0].rollouts[0].returns.size) if runs else 0,
        "policies": policies,
        "best_baseline": best.contender.name if best else None,
        "verdict": verdict,
        "sentence": sentence,
        "subject": judged.contender.name if judged else None,
        "headroom": _headroom(runs, judged),
    }


def _row(runs: Runs, best: Runs | None) -> dict[str, Any]:
    value, c = student_t(runs.means()), runs.contender
    lift = paired_t(runs.means(), best.means()) if best else Interval(math.nan, math.nan, math.nan)
    names = runs.rollouts[0].component_names
    shares = [math.fsum(float(r.components[:, j].mean()) for r in runs.rollouts) / len(runs.rollouts) for j in range(len(names))]
    return {
        "name": c.name,
        "role": c.role,
        "mean": number(value.mean),
        "ci": value.ci(),
        "length": mean_over_seeds(runs.rollouts, "visit_length"),
        "steps_trained": c.steps_trained,
        "lift": number(lift.mean),
        "lift_ci": lift.ci(),
        "decisions": mean_over_seeds(runs.rollouts, "decisions"),
        "visits": mean_over_seeds(runs.rollouts, "visits"),
        "discounted": mean_over_seeds(runs.rollouts, "discounted"),
        "coverage": mean_over_seeds(runs.rollouts, "coverage"),
        "components": dict(zip(names, shares, strict=True)),
    }


def _subject(runs: Sequence[Runs], best: Runs | None, name: str | None) -> Runs | None:
    if name is not None:
        found = next((r for r in runs if r.contender.name == name), None)
        if found is None:
            known = ", ".join(r.contender.name for r in runs)
            raise UserError("a policy of the comparison", name, where="subject", hint=f"one of: {known}", code=Code.UNKNOWN_POLICY)
        return found
    return next((r for r in runs if r.contender.role == "candidate"), None)


def _verdict(judged: Runs | None, best: Runs | None, seeds: int) -> tuple[str, str]:
    """The verdict and its sentence."""
    if judged is None or best is None or judged is best:
        return "not enough evidence", "There is no policy to judge beside a baseline, so nothing is claimed."
    lift = paired_t(judged.means(), best.means())
    who, rival = judged.contender.name, best.contender.name
    if not math.isfinite(lift.lo):
        return "not enough evidence", f"One seed gives no interval, so {who} cannot be distinguished from {rival}; ask for 5 seeds."
    limits = f"{lift.mean:+.2f} per customer, 95 % interval {lift.lo:+.2f} to {lift.hi:+.2f}, {seeds} seeds"
    caution = "" if seeds >= 5 else " Fewer than 5 seeds: take it as a hint."
    if lift.lo > 0:
        return "better", f"{who} earns more than the best baseline, {rival} ({limits}).{caution}"
    if lift.hi < 0:
        return "worse", f"{who} earns less than the best baseline, {rival} ({limits}).{caution}"
    return "not enough evidence", f"{who} cannot be distinguished from the best baseline, {rival} ({limits}).{caution}"


def _headroom(runs: Sequence[Runs], judged: Runs | None) -> dict[str, Any] | None:
    """What foresight is worth here: the better reference minus the other one, paired; None without two references."""
    references = sorted((r for r in runs if r.contender.role == "reference"), key=lambda r: math.fsum(r.means()))
    if len(references) < 2:
        return None
    low, high = references[0], references[-1]
    room = paired_t(high.means(), low.means())
    score = None
    if judged is not None and room.mean > 0:
        score = number(paired_t(judged.means(), low.means()).mean / room.mean)
    return {"from": low.contender.name, "to": high.contender.name, **room.to_dict(), "score": score}
