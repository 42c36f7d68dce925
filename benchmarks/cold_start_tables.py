"""The tables of docs/scenarios/cold_start.md from the lines of docs/cold_start.csv (benchmarks/cold_start.py writes both)."""

from collections.abc import Sequence

import numpy as np

from qurate.evaluation.intervals import Interval, paired_t, student_t

LABELS = {
    "random": "random", "popularity": "popularity", "static": "best static list", "item_knn": "item-kNN", "content": "content",
    "linucb": "LinUCB, stopped", "thompson": "Thompson, stopped", "myopic": "myopic, stopped", "dqn": "DQN, stopped",
    "linucb+": "LinUCB, goes on", "thompson+": "Thompson, goes on", "dqn+": "DQN, goes on",
    "true_myopic": "true-myopic (reference)", "far_sighted": "far-sighted (reference)",
}  # fmt: skip
RIVAL = "static"
RECOVERED = 0.95
"""Share of the level before a switch that counts as recovered."""
Lines = Sequence[dict[str, str]]
Values = dict[str, dict[str, dict[int, float]]]
"""Policy, measure, seed."""


def recovery(before: float, after: Sequence[float], window: int) -> int | None:
    """Decisions after a change until the end of the first window whose level is at least `RECOVERED` of `before`; None = in none."""
    back = np.flatnonzero(np.asarray(after) >= RECOVERED * before)
    return (int(back[0]) + 1) * window if len(back) else None


def page_with(page: str, lines: Lines, window: int) -> str:
    """The page with each table between its marks."""
    for part, table in (("users", users), ("items", items), ("rooms", rooms), ("drift", drift)):
        begin, end = f"<!-- {part} -->", f"<!-- end {part} -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n\n{table(values_of(lines, part), window)}\n\n{end}{rest.split(end)[1]}"
    return page


def values_of(lines: Lines, part: str) -> Values:
    """The lines of a part, in the order of `LABELS`."""
    out: Values = {}
    for name in LABELS:
        for line in lines:
            if line["part"] == part and line["policy"] == name:
                out.setdefault(name, {}).setdefault(line["measure"], {})[int(line["seed"])] = float(line["value"])
    return out


def users(found: Values, window: int) -> str:
    """New customers: the rows in order of what their first decisions bring."""
    head = ["policy", "reward of the first 5 decisions", "over the static list", "per decision, 1 to 5", "per decision, 6 to 30"]
    rows = []
    for name, own in sorted(found.items(), key=lambda pair: _mean(pair[1]["first"])):
        gap = "" if name == RIVAL or RIVAL not in found else _paired(own["first"], found[RIVAL]["first"])
        label = LABELS[name].removesuffix(", stopped")
        rows.append([label, _shown(own["first"]), gap, *(_shown(own[f"per_decision_{when}"]) for when in ("first", "later"))])
    return _table(head, rows, found)


def items(found: Values, window: int) -> str:
    """New products: exposure and reward in the first window after they came, and exposure in the last one."""
    head = ["policy", "exposure, first", "reward of new", "reward of others", "exposure, last", "per decision before", "first", "last"]
    measures = ("exposure", "reward_new", "reward_others", "exposure_end", "reward_before", "reward_all", "reward_all_end")
    return _table(head, [[LABELS[name], *(_shown(own[m]) for m in measures)] for name, own in found.items()], found)


def rooms(found: Values, window: int) -> str:
    """New rooms in their first hour."""
    head = ["policy", "exposure", "reward of new rooms", "reward of others", "per decision"]
    measures = ("exposure", "reward_new", "reward_others", "reward_all")
    rows = [[LABELS[name].removesuffix(", stopped"), *(_shown(own[m]) for m in measures)] for name, own in found.items()]
    return _table(head, rows, found)


def drift(found: Values, window: int) -> str:
    """The switch of tastes: reward per decision around it, and how long until the level before is reached, on the mean over seeds.

    A seed counts for a policy where it was measured to the policy's last window.
    """
    found = {name: _whole(own) for name, own in found.items()}
    lasting = {max(_numbers(own)) for own in found.values()}
    some = sorted(i for i in {0, 1, *lasting} if i <= max(lasting))
    head = ["policy", "before", *(f"to {(i + 1) * window:,}" for i in some), "recovered after"]
    rows = []
    for name, own in found.items():
        numbers = _numbers(own)
        earlier = [f"window {i}" for i in numbers if i < 0]
        before = {seed: float(np.mean([own[m][seed] for m in earlier])) for seed in own["window 0"]}
        when = recovery(_mean(before), [_mean(own[f"window {i}"]) for i in numbers if i >= 0], window)
        told = f"never within {(max(numbers) + 1) * window:,}" if when is None else f"{when:,}"
        rows.append([LABELS[name], _shown(before), *(_shown(own.get(f"window {i}", {})) for i in some), told])
    return _table(head, rows, found)


def _whole(own: dict[str, dict[int, float]]) -> dict[str, dict[int, float]]:
    """The seeds that were measured to the last window."""
    seeds = own[f"window {max(_numbers(own))}"].keys()
    return {measure: {seed: of_seed[seed] for seed in seeds} for measure, of_seed in own.items()}


def _numbers(own: dict[str, dict[int, float]]) -> list[int]:
    """Of the windows that were measured, ascending."""
    return sorted(int(measure.split()[1]) for measure in own)


def _mean(of_seed: dict[int, float]) -> float:
    values = [value for value in of_seed.values() if np.isfinite(value)]
    return float(np.mean(values)) if values else float("nan")


def _shown(of_seed: dict[int, float]) -> str:
    """Mean and half width of the interval over seeds; a dash where no seed has a value."""
    finite = [value for value in of_seed.values() if np.isfinite(value)]
    return _text(student_t(finite)) if finite else "-"


def _paired(own: dict[int, float], other: dict[int, float]) -> str:
    both = sorted(own.keys() & other.keys())
    return _text(paired_t([own[seed] for seed in both], [other[seed] for seed in both]), "+")


def _text(one: Interval, sign: str = "") -> str:
    return f"{one.mean:{sign}.2f}" if np.isnan(one.lo) else f"{one.mean:{sign}.2f} +- {one.mean - one.lo:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], found: Values) -> str:
    seeds = sorted({seed for own in found.values() for of_seed in own.values() for seed in of_seed})
    rule = ["---"] * len(head)
    text = "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))
    return f"{text}\n\nMean and 95 % interval (Student t) over the seeds {', '.join(map(str, seeds))}." if seeds else "Not measured."
