"""Several rankings of the same held-out decisions: paired differences, and which one to use."""

from collections.abc import Mapping
from typing import Any

from qurate.evaluation.evaluate import ALIKE, Measured, Targets, by_group, by_propensity, by_segment, by_type, caption_of
from qurate.evaluation.intervals import Interval, number, percentile
from qurate.evaluation.ranking import Ranked, RankingData
from qurate.types import IntArray

LEVEL = 0.95


def contest(
    on: str, data: RankingData, rows: IntArray, ranked: Mapping[str, Ranked], opened: int, *, k: int = 20, draws: int = 1_000,
    seed: int = 0, discount: tuple[float, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The contract's evaluate JSON of the first contender with the others as its baselines, and a verdict.

    Besides: `contenders` (each with its figures and `behind`: how much less NDCG@k than the best, paired, `mean` and `ci`),
    `best`, `verdict` ("use" or "insufficient") and `sentence`. The best is the one to use where every interval of the
    others' differences lies below 0, and also where each answer counts by 1 / its propensity, if these were logged: a log answers
    most about what it shows most, so that the policy that made it agrees best with it, whatever it earns. The intervals are 95 %
    for all differences together (Bonferroni), for the best is not known beforehand; bootstrap over users.

    Args:
        on: name of the data.
        rows: the targets T, transitions of `data`.
        ranked: what each contender did with them.
        opened: how many items were open to at least one target.
        discount: see `evaluate_ranking`.
    """
    metric, names = f"NDCG@{k}", list(ranked)
    found = ranked[names[0]].ranks.ties > 0
    targets = Targets(data, rows, found, draws, seed, discount)
    measured = {name: Measured([one], targets, k, opened) for name, one in ranked.items()}
    mean = {name: float(one.total[metric]["mean"]) for name, one in measured.items()}
    best = max(names, key=lambda name: mean[name])
    level = 1 - (1 - LEVEL) / max(len(names) - 1, 1)
    behind = {
        name: percentile(mean[name] - mean[best], measured[name].draws[metric] - measured[best].draws[metric], level)
        for name in names
        if name != best
    }
    first, others = names[0], names[1:]
    rival = max(others, key=lambda name: mean[name])
    lift = percentile(mean[first] - mean[rival], measured[first].draws[metric] - measured[rival].draws[metric])
    return {
        "model": first,
        "on": on,
        "n": int(rows.size),
        "metrics": measured[first].total,
        "by_type": by_type(measured[first], targets),
        "by_score": {},
        "baselines": {name: measured[name].total for name in others},
        "caption": caption_of(data),
        **{"k": k, "users": targets.users, "seeds": 1},
        "missed": float(1.0 - found.mean()),
        **by_group(measured[first], targets),
        **by_propensity(measured, targets),
        "segments": by_segment(measured[first], targets),
        "lists": {name: one.lists for name, one in measured.items()},
        "lift": {"metric": metric, "over": rival, **lift.to_dict()},
        "contenders": [
            {"name": name, **_contender(one, targets), "behind": None if name == best else behind[name].to_dict()}
            for name, one in measured.items()
        ],
        "best": best,
        **_verdict(best, metric, behind, _behind_alike(measured, best, metric, level)),
    }


def _verdict(best: str, metric: str, behind: Mapping[str, Interval], alike: Mapping[str, Interval]) -> dict[str, str]:
    """Whether to use the best, and why; `alike` is `behind` with each answer by 1 / its propensity."""
    clear = bool(behind) and all(one.hi < 0 for one in behind.values())
    if clear and (by_showing := {name: one for name, one in alike.items() if not one.hi < 0}):
        return {"verdict": "insufficient", "sentence": _sentence_alike(best, metric, by_showing)}
    gaps = {name: [number(x) for x in one] for name, one in behind.items()}
    return {"verdict": "use" if clear else "insufficient", "sentence": _sentence(best, metric, gaps, clear)}


def _behind_alike(measured: Mapping[str, Measured], best: str, metric: str, level: float) -> dict[str, Interval]:
    """How much less than the best, paired, where each answer counts by 1 / its propensity; empty where that says nothing new."""
    top = measured[best]
    out = {}
    for name, one in measured.items():
        if name != best and one.alike_draws is not None and top.alike_draws is not None:
            gap = float(one.by_group[ALIKE][metric]["mean"] - top.by_group[ALIKE][metric]["mean"])
            out[name] = percentile(gap, one.alike_draws[metric] - top.alike_draws[metric], level)
    return out


def _sentence_alike(best: str, metric: str, by_showing: Mapping[str, Interval]) -> str:
    """Where the best is the best only because of what the log showed."""
    rival = max(by_showing, key=lambda name: by_showing[name].mean)
    mean, lo, hi = by_showing[rival]
    gap = f"{metric} {0 - mean:+.4f} over {rival}, interval {0 - hi:+.4f} to {0 - lo:+.4f}"
    return (
        f"Not enough evidence: {best} agrees best with what was answered, but not clearly where each answer counts by 1 / its propensity, "
        f"as if everything had been shown equally often ({gap})."
    )


def _contender(one: Measured, targets: Targets) -> dict[str, Any]:
    """The figures of one contender."""
    groups = by_group(one, targets)
    return {"metrics": one.total, "by_type": by_type(one, targets), **groups, "segments": by_segment(one, targets)}


def _sentence(best: str, metric: str, behind: Mapping[str, list[float | None]], clear: bool) -> str:
    nearest = max(behind, key=lambda name: behind[name][2] if behind[name][2] is not None else float("inf"))  # type: ignore[arg-type, return-value]
    mean, lo, hi = behind[nearest]
    if mean is None or lo is None or hi is None:
        return "Not enough evidence: there is no interval."
    gap = f"{metric} {0 - mean:+.4f} over {nearest}, interval {0 - hi:+.4f} to {0 - lo:+.4f}"
    if clear:
        return f"Use {best}: it ranks what was chosen later higher than all the others ({gap})."
    return f"Not enough evidence: {best} is ahead, but the difference may be chance ({gap})."
