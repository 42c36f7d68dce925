"""The report: one HTML file that needs nothing else (no script, no network), and the same as JSON.

Whatever comes from data (ids, names, notes) is escaped; the page's content security policy forbids scripts and loading.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qurate.evaluation.compare import Runs
from qurate.evaluation.intervals import Interval
from qurate.evaluation.page import clean, escape, figure, name_cell, picture, save_page, span, table, whole_page
from qurate.evaluation.rollouts import TracedStep, mean_over_seeds

Curve = Mapping[int, Sequence[tuple[float, float]]]
"""A learning curve: seed to (decisions trained on, value) in growing order."""

MAX_LINES = 5


@dataclass(frozen=True, repr=False)
class Report:
    """A comparison or an evaluation, for people and for programs.

    Args:
        result: the contract's compare or evaluate JSON.
        title: headline.
        notes: paragraphs in plain words: why the rows differ, limits.
        curves: policy name to its learning curve.
        runs: the rollouts behind a comparison, for "what customers did".
        sections: gives more of the page, ready HTML.

    >>> report = qurate.evaluate(qurate.train(log, algorithm="popularity"), log)
    >>> report.save_html("report.html")
    >>> report.to_dict()["model"]
    'popularity'
    """

    result: dict[str, Any]
    title: str = "qurate report"
    notes: Sequence[str] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    runs: Sequence[Runs] = ()
    sections: Callable[[], Sequence[str]] = tuple

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {figure(entry['mean'], 4)}" for name, entry in list(self.result.get("metrics", {}).items())[:3])
        return f"Report({clean(self.title)}: {clean(self.result.get('sentence') or figures)})"

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that its styles and the notebook's do not meet."""
        return f'<iframe sandbox srcdoc="{escape(self.html())}" style="width:100%;height:42rem;border:0"></iframe>'

    def to_dict(self) -> dict[str, Any]:
        """The contract's JSON object, without NaN."""
        return self.result

    def html(self) -> str:
        """The page as text."""
        body = _compare_page(self) if "policies" in self.result else _evaluate_page(self)
        return whole_page(self.title, body + "".join(self.sections()), self.notes)

    def save_html(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the page beside `path` and renames it there: whole or not at all.

        Raises: UserError: a file is there that qurate did not write, and no `force`. MachineError: it cannot be written.
        """
        save_page(self.html(), path, force)


SCORE_WORDS = {
    "q": "by the reward expected from now on",
    "q_in_support": "the same, first among the items that the log often has in such a situation",
    "behaviour": "by what the log's customers (or its policy) most likely chose there, whatever it is worth",
    "policy": "by the policy extracted with the advantages: what the log often shows there, more so where it earned more than usual",
    "behaviour_times_q": "by how likely the item is to be chosen there times the reward expected from it (log pi_b + log Q)",
}
BAND = "Line: mean over the seeds. Band: lowest to highest seed."
PER_DECISION = (
    "It counts single decisions, some of them random: a policy that keeps customers longer can earn less per decision and more per "
    "customer, which is what the figures above count."
)
ROLE_WORDS = {"candidate": "candidate", "baseline": "baseline", "reference": "reference (sees hidden state)"}


def _compare_page(report: Report) -> str:
    from qurate.evaluation import charts  # altair takes a second to import, and most commands write no report

    r = report.result
    best, policies = r["best_baseline"], r["policies"]
    value = {p["name"]: p["mean"] for p in policies}
    colours = {ROLE_WORDS[role]: token for role, token in charts.ROLE_COLOURS.items()}
    bars = [charts.Bar(clean(p["name"]), Interval.from_dict(p), ROLE_WORDS[p["role"]]) for p in policies]
    parts = [
        f'<p class="lead {escape(r["verdict"]).replace(" ", "-")}">{escape(r["sentence"])}</p>',
        f"<p>{_compare_words(r)}</p>",
        "<h2>What one customer brought</h2>",
        picture(charts.dots(bars, "reward per customer", colours, mark=value.get(best)), _dots_caption(best)),
        _compare_table(r),
    ]
    names = list(dict.fromkeys([run.contender.name for run in _shown_runs(report)] + list(report.curves)))
    if report.curves:
        parts += [
            "<h2>While they learned</h2>",
            picture(_curves(report.curves, names), f"{BAND} {PER_DECISION}"),
        ]
    if report.runs:
        parts += ["<h2>What customers did</h2>", *_behaviour(report, names)]
    return "".join(parts)


def _compare_words(r: Mapping[str, Any]) -> str:
    """How to read the table, in plain words."""
    seeds = len(r["seeds"])
    text = (
        f"Every policy served the same {r['customers']:,} simulated customers of <b>{escape(r['env'])}</b> in each of {seeds} "
        f"seed{'s' if seeds != 1 else ''}; a seed renews the customers and, where a policy learns, its training. "
        "The mean is the reward one customer brought from the first visit until leaving for good or the step limit. "
        "The interval (95 %, Student t over seeds) says how far that mean could move with other seeds. "
        "The lift is the difference to the best baseline on the same customers and seeds, so what they share cancels out: "
        "only a lift whose whole interval lies above zero counts as better. References see what no recommender can see; "
        "they show how much there is to gain and are never the baseline."
    )
    room = r.get("headroom")
    if room:
        text += (
            f" Here foresight is worth {figure(room['mean'], sign=True)} ({span(room['ci'], sign=True)}) per customer: "
            f"{name_cell(room['to'])} against {name_cell(room['from'])}."
        )
        if room["score"] is not None:
            ends = f"from 0 ({name_cell(room['from'])}) to 1 ({name_cell(room['to'])})"
            text += f" On a scale {ends}, {name_cell(r['subject'])} stands at {figure(room['score'])}."
    return text


def _dots_caption(best: str | None) -> str:
    base = "Dot: mean. Bar: 95 % interval over seeds."
    return f"{base} Dashed line: the best baseline, {clean(best)}." if best else base


def _compare_table(r: Mapping[str, Any]) -> str:
    head = ["policy", "reward per customer", "lift over the best baseline", "decisions per visit", "visits", "decisions trained on"]
    ordered = sorted(r["policies"], key=lambda p: math.inf if p["mean"] is None else -p["mean"])
    rows = []
    for p in ordered:
        best = p["name"] == r["best_baseline"]
        rows.append(
            [
                f'{name_cell(p["name"])}<br><span class="ci">{escape(ROLE_WORDS[p["role"]])}</span>',
                _metric_cell({"mean": p["mean"], "ci": p["ci"]}, 2),
                '<span class="ci">best baseline</span>' if best else _metric_cell({"mean": p["lift"], "ci": p["lift_ci"]}, 2, sign=True),
                figure(p["length"], 1),
                figure(p["visits"], 1),
                f"{p['steps_trained']:,}" if p["steps_trained"] else "–",
            ]
        )
    return table(head, rows, [p["name"] == r["subject"] for p in ordered]) + (
        '<p class="caption">Small figures: 95 % intervals. The row judged is shaded.</p>'
    )


def _curves(curves: Mapping[str, Curve], names: Sequence[str] = ()) -> str:
    """`names`: all policies of the page, each of which has one colour."""
    from qurate.evaluation import charts

    drawn = []
    for name, curve in list(curves.items())[:MAX_LINES]:
        at: dict[float, list[float]] = {}
        for points in curve.values():
            for step, value in points:
                if math.isfinite(value):
                    at.setdefault(float(step), []).append(float(value))
        steps = sorted(at)
        drawn.append(
            charts.Line(
                clean(name), steps, [float(np.mean(at[s])) for s in steps], [min(at[s]) for s in steps], [max(at[s]) for s in steps]
            )
        )
    return charts.lines(drawn, "decisions trained on", "reward per decision, while exploring", names=[clean(name) for name in names])


def _shown_runs(report: Report) -> list[Runs]:
    """At most five rows worth a line: the judged policy, the best baseline, the references, then the others by mean."""
    r = report.result
    rank = {r["subject"]: 0, r["best_baseline"]: 1}

    def key(run: Runs) -> tuple[int, float]:
        first = rank.get(run.contender.name, 2 if run.contender.role == "reference" else 3)
        return first, -math.fsum(run.means())

    return sorted(report.runs, key=key)[:MAX_LINES]


def _behaviour(report: Report, names: Sequence[str]) -> list[str]:
    from qurate.evaluation import charts

    shown, named = _shown_runs(report), [clean(name) for name in names]
    present, earned = [], []
    for run in shown:
        longest = max(r.present.size for r in run.rollouts)
        there, reward = (np.zeros((len(run.rollouts), longest)) for _ in range(2))
        for i, r in enumerate(run.rollouts):
            there[i, : r.present.size] = r.present / r.returns.size
            reward[i, : r.step_reward.size] = r.step_reward / r.returns.size
        steps, name = list(range(1, longest + 1)), clean(run.contender.name)
        present.append(charts.Line(name, steps, there.mean(axis=0).tolist()))
        earned.append(charts.Line(name, steps, reward.cumsum(axis=1).mean(axis=0).tolist()))
    return [
        picture(
            charts.lines(present, "decision", "customers still there", percent=True, names=named),
            "Share of all customers who are served once more.",
        ),
        picture(
            charts.lines(earned, "decision", "reward so far, per customer", names=named),
            "What all customers together brought up to this decision.",
        ),
        _behaviour_table(report.runs),
        *_journeys(shown[:2]),
    ]


def _behaviour_table(runs: Sequence[Runs]) -> str:
    """Per customer: decisions, visits, returns and what they did, by component."""
    names = runs[0].rollouts[0].component_names
    head = ["policy", "decisions", "visits", "came back", "left for good", "items ever shown", *(clean(n) for n in names)]
    rows = []
    for run in runs:
        mean = {key: mean_over_seeds(run.rollouts, key) for key in ("decisions", "visits", "came_back", "gone", "coverage")}
        parts = np.mean([r.components.mean(axis=0) for r in run.rollouts], axis=0)
        shares = [f"{100 * mean[key]:.0f} %" for key in ("came_back", "gone", "coverage")]
        head_cells = [name_cell(run.contender.name), figure(mean["decisions"], 1), figure(mean["visits"], 1)]
        rows.append([*head_cells, *shares, *(figure(float(v)) for v in parts)])
    return table(head, rows) + '<p class="caption">Means per customer; components before weighting.</p>'


def _journeys(runs: Sequence[Runs]) -> list[str]:
    """The first customers of the first seed, decision by decision: the same people under two policies."""
    parts = []
    for run in runs:
        traced = run.rollouts[0].trace
        customers = sorted({m.customer for m in traced})
        if customers:
            parts.append(f"<h3>The same customers served by {name_cell(run.contender.name)}</h3>")
        parts += [_journey(customer, [m for m in traced if m.customer == customer]) for customer in customers]
    return parts


def _journey(customer: int, traced: Sequence[TracedStep]) -> str:
    total, visits, shown = sum(m.reward for m in traced), traced[-1].visit, traced[:24]
    chips, visit = [], 0
    for m in shown:
        if m.visit != visit:
            visit = m.visit
            chips.append(f'<span class="visit">visit {visit}</span>')
        did = f" <b>{escape(', '.join(map(clean, m.events)))}</b>" if m.events else ""
        chips.append(f'<span class="chip{" hit" if m.events else ""}">{_with_about(m)}{did}</span>')
    more = f'<span class="visit">and {len(traced) - len(shown)} more</span>' if len(traced) > len(shown) else ""
    words = f"Customer {customer + 1}: {figure(total)} in {len(traced)} decisions, {visits} visit{'s' if visits != 1 else ''}"
    return f'<p class="caption">{words}</p><p class="journey">{"".join(chips)}{more}</p>'


def _with_about(step: TracedStep) -> str:
    """The items shown, each with its category and price where they are known."""
    about = step.about or ("",) * len(step.items)
    return ", ".join(name_cell(item) + (f" ({escape(clean(said))})" if said else "") for item, said in zip(step.items, about))


def _evaluate_page(report: Report) -> str:
    from qurate.evaluation import charts

    r = report.result
    headline = f"NDCG@{r['k']}" if "k" in r else "return"
    scores = {f"{r['model']}: {name}": entry for name, entry in r["by_score"].items()} or {r["model"]: r["metrics"]}
    colours = {"model": charts.SERIES[0], "baseline": charts.SERIES[4]}
    bars = [charts.Bar(clean(name), Interval.from_dict(e[headline]), "model") for name, e in scores.items()]
    bars += [charts.Bar(clean(name), Interval.from_dict(e[headline]), "baseline") for name, e in r["baselines"].items()]
    metrics, digits = list(r["metrics"]), 4 if "k" in r else 2
    rows = [[name_cell(n), *(_metric_cell(e.get(m), digits) for m in metrics)] for n, e in {**scores, **r["baselines"]}.items()]
    parts = [
        f'<p class="lead">{escape(r["model"])} on {escape(r["on"])}: {figure(r["metrics"][headline]["mean"], digits)} {escape(headline)}, '
        f"95 % interval {span(r['metrics'][headline]['ci'], digits)}.</p>",
        f"<p>{_evaluate_words(r)}</p>",
        picture(charts.dots(bars, headline, colours, digits), f"{headline}: {r['caption']}. Dot: mean. Bar: 95 % interval."),
        table(["ranked by", *metrics], rows, [True] * len(scores)),
    ]
    agreement = {name: e["first_choice_as_behaviour"] for name, e in r["by_score"].items() if "first_choice_as_behaviour" in e}
    if agreement:
        said = ", ".join(f"{name_cell(name)} {100 * share:.0f} %" for name, share in agreement.items())
        parts.append(f'<p class="caption">First choice equal to the behaviour head\'s: {said}.</p>')
    named = {name: words for name, words in SCORE_WORDS.items() if name in r["by_score"]}
    if named:
        said = " ".join(f"<b>{name}</b>: {words}." for name, words in named.items())
        parts.append(f'<p class="caption">The model recommends by {name_cell(r.get("main", ""))}. {said}</p>')
    if "exclude" in r:
        parts.append(f'<p class="caption">Not shown again, and so not ranked: {name_cell(r["exclude"])}.</p>')
    if r["by_type"]:
        columns = [m for m in next(iter(r["by_type"].values())) if m != "n"]
        groups = {name.replace("_", " "): r[name] for name in ("first_choices", "repeats") if r.get(name, {}).get("n")}
        by_type = [
            [name_cell(n), f"{e['n']:,}" if "n" in e else "–", *(_metric_cell(e.get(m), digits) for m in columns)]
            for n, e in (r["by_type"] | groups).items()
        ]
        parts += ["<h2>By what the customer did</h2>", table(["type", "targets", *columns], by_type)]
    parts += _segments_and_lists(r, digits)
    if report.curves:
        parts += ["<h2>While it learned</h2>", picture(_curves(report.curves), BAND)]
    return "".join(parts)


SEGMENT_WORDS = {
    "new_users": "users without a decision in training",
    "heavy_users": "the tenth of the users with most decisions in training",
    "new_items": "items that no decision in training was about",
}


def _segments_and_lists(r: Mapping[str, Any], digits: int) -> list[str]:
    """For whom the figures hold, and what stands on the lists."""
    parts = []
    if r.get("segments"):
        columns = [m for m in next(iter(r["segments"].values())) if m != "n"]
        rows = [
            [SEGMENT_WORDS.get(name, escape(name)), f"{one['n']:,}", *(_metric_cell(one.get(m), digits) for m in columns)]
            for name, one in r["segments"].items()
        ]
        parts += ["<h2>For whom and of what</h2>", table(["targets of", "targets", *columns], rows)]
    if r.get("shown_alike"):
        columns = list(next(iter(r["shown_alike"].values())))[1:]
        rows = [[name_cell(name), *(_metric_cell(one.get(m), digits) for m in columns)] for name, one in r["shown_alike"].items()]
        worth = f"They are worth {round(next(iter(r['shown_alike'].values()))['effective']):,} answers of equal weight."
        parts += [
            "<h2>As if all were shown alike</h2>",
            table(["ranked by", *columns], rows),
            f'<p class="caption">{ALIKE_WORDS} {worth}</p>',
        ]
    if r.get("lists"):
        columns = list(next(iter(r["lists"].values())))
        rows = [[name_cell(name), *(_metric_cell(one.get(m), 3) for m in columns)] for name, one in r["lists"].items()]
        parts += ["<h2>What is recommended</h2>", table(["by", *columns], rows), f'<p class="caption">{LIST_WORDS}</p>']
    return parts


ALIKE_WORDS = (
    "Each answer counts by 1 / the logged propensity of what was answered, as if everything had been shown equally often: a log answers "
    "most about what it shows most, so that whoever imitates it agrees best."
)

LIST_WORDS = (
    "Whether it was chosen or not. Novelty: bits, -log2 of an item's share of the choices in training. Diversity: 1 - cosine of the "
    "features of two items of a list. Coverage: share of the open items that stand on some list. Gini: 0 where all items are shown alike, "
    "near 1 where a few are all that is shown. Coverage and Gini are of all lists together and have no interval."
)


def _metric_cell(entry: Mapping[str, Any] | None, digits: int, sign: bool = False) -> str:
    """A mean with its interval below it in small figures."""
    if entry is None:
        return "–"
    ci = span(entry["ci"], digits, sign)
    return figure(entry["mean"], digits, sign) + (f'<br><span class="ci">{ci}</span>' if ci != "–" else "")


def _evaluate_words(r: Mapping[str, Any]) -> str:
    if "k" not in r:
        return f"The figures are {escape(r['caption'])}; intervals (95 %) are Student t over {r['seeds']} seeds."
    k, seeds = r["k"], r["seeds"]
    text = (
        f"Each of {r['n']:,} later decisions of {r['users']:,} users is ranked again: where does the item that was then chosen stand "
        f"among {figure(r['candidates'], 0)} open items on average? HR@{k} counts it among the first {k}; NDCG and MRR give more "
        f"for a higher place; value@{k} counts each hit by the reward it earned, return@{k} by that and the "
        f"discounted rewards that followed in the log. "
        f"Items of the same score share their places by chance. In {100 * r['missed']:.1f} % of the decisions "
        f"the item was not open yet: a miss{_open_words(r)}. Intervals (95 %): bootstrap over users, with {seeds} training "
        f"seed{'s' if seeds != 1 else ''}. "
        f"<b>Read it as {escape(r['caption'])}.</b>"
    )
    lift = r.get("lift")
    if lift and lift["mean"] is not None:
        text += (
            f" Against the best baseline, {name_cell(lift['over'])}, the difference in {escape(lift['metric'])} is "
            f"{figure(lift['mean'], 4, True)} ({span(lift['ci'], 4, True)})."
        )
    return text


def _open_words(r: Mapping[str, Any]) -> str:
    """What the misses hide, where there are some."""
    metric = f"NDCG@{r['k']}"
    return f" (on the others alone {metric} is {figure(r['open'][metric]['mean'], 4)})" if r["missed"] > 0.005 else ""
