"""The page of a trained model: what it was made from, how it learned, whether it beats the baselines, what it recommends."""

from typing import Any

from qurate.errors import MachineError, UserError
from qurate.evaluation.intervals import Interval
from qurate.evaluation.page import clean, escape, figure, name_cell, picture, span, table, whole_page
from qurate.events.features import Spec, described_features
from qurate.events.titles import with_title
from qurate.experiments.evaluate import evaluate
from qurate.experiments.five_users import five_users
from qurate.mdp.storage import Dataset
from qurate.models.model import Model
from qurate.settings import flat
from qurate.training.train import usual_settings

VISITS, LARGEST = 2_000, 200_000
"""Held-out visits that are ranked for the verdict; a dataset of more decisions is left to `qurate evaluate`, which takes longer."""
KINDS = {
    "organic": "what customers chose; what they were shown is not known",
    "exposure": "what customers were shown and how they answered, without probabilities",
    "logged": "what customers were shown, with the probability of each item, and how they answered",
}


def model_page(model: Model, dataset: Dataset | None, name: str) -> str:
    """The page as text.

    Args:
        dataset: that the model was trained on; None: an environment.
        name: of the model, such as its directory.
    """
    body = [_facts(model, dataset)]
    if dataset is not None:
        lead, picture_of = _verdict(model, dataset, name)
        body = [
            lead,
            body[0],
            _rewards(model, dataset),
            _features(model),
            _curve(model),
            _reliability(model),
            picture_of,
            *five_users(model),
        ]
        if model.histories is None:
            body.append("<p>The model keeps no histories (--no-histories), so no user is shown here.</p>")
    else:
        body.append(_curve(model))
    notes = [] if dataset is None else list(dataset.manifest["notes"])
    return whole_page(f"{clean(name)}: {model.algorithm}", "".join(body), notes)


def _facts(model: Model, dataset: Dataset | None) -> str:
    p, metrics = model.provenance, model.metrics
    rows = [["algorithm", escape(model.algorithm)]]
    if dataset is None:
        rows.append(["learned in", name_cell(p.environment)])
    else:
        counts, source = dataset.manifest["counts"], ", ".join(dataset.manifest["source"])
        made_of = f"<br><span class='ci'>made of {name_cell(source)}</span>" if source else ""
        rows += [
            ["learned from", name_cell(p.dataset or "a dataset in memory") + made_of],
            ["kind of log", f"{escape(dataset.kind)}: {escape(KINDS[dataset.kind])}"],
            ["size", f"{counts['events']:,} events, {counts['users']:,} users, {counts['items']:,} items"],
            ["decisions learned from", f"{metrics.get('decisions', 0):,}"],
        ]
    if "started_from" in metrics:
        rows.append(["began as", name_cell(metrics["started_from"])])
    stopped = {"steps": "as many as planned", "budget": "until the time was over", "interrupted": "until it was interrupted"}
    rows.append(["training", f"{metrics['steps']:,} steps in {metrics['seconds']:,} s, {stopped[metrics['stopped']]}"])
    if metrics.get("skipped"):
        rows.append(["skipped", f"{metrics['skipped']:,} updates, because their loss or gradient was not finite"])
    changed = _changed(model, dataset)
    rows.append(["settings other than the defaults", ", ".join(f"{escape(k)} = {escape(v)}" for k, v in changed.items()) or "none"])
    if dataset is not None:
        rows.append(
            ["not shown again", f"{escape(model.answering.exclude)} <span class='ci'>({escape(model.answering.exclude_reason)})</span>"]
        )
    return "<h2>What it is</h2>" + table(["", ""], rows, text=2)


def _changed(model: Model, dataset: Dataset | None) -> dict[str, Any]:
    """Settings that its own algorithm does not have where nothing is set; how many items are shown at once is the world's."""
    usual = flat(usual_settings(model.algorithm, dataset, task=model.kind == "task"))
    return {name: value for name, value in flat(model.settings).items() if usual.get(name) != value and name != "slate_size"}


def _rewards(model: Model, dataset: Dataset) -> str:
    counts = dict.fromkeys(model.components, 0)
    types = list(dataset.vocabulary.types)
    for name in counts:
        counts[name] = int((dataset.arrays.type == types.index(name) + 1).sum()) if name in types else 0
    rewards = model.answering.rewards
    rows = [
        [name_cell(name), f"{counts[name]:,}", f"{float(weight):g}", "its value" if rewards.get(name, {}).get("per") else "event"]
        for name, weight in zip(model.components, model.weights)
    ]
    return "<h2>What an event is worth</h2>" + table(["event", "in the log", "weight", "per"], rows)


def _features(model: Model) -> str:
    def part(what: str, spec: Spec) -> list[list[str]]:
        described = described_features(spec) if spec else []
        described = with_title(described, spec.get("title")) if what == "items" else described
        return [[name_cell(one["column"]), what, escape(one["became"]), f"{one['dimensions']:,}"] for one in described]

    rows = [*part("items", model.answering.item_spec), *part("users", model.answering.user_spec)]
    if not rows:
        said = "None: items and users are known by their ids alone. A new item has no value of its own until it is seen."
        return f"<h2>Features</h2><p>{said}</p>"
    return "<h2>Features</h2>" + table(["column", "of", "became", "dimensions"], rows, text=3)


def _curve(model: Model) -> str:
    from qurate.evaluation import charts  # altair takes a second to import

    curve = [point for point in model.metrics.get("curve", []) if "loss" in point]
    if len(curve) < 2:
        return "<h2>While it learned</h2><p>No curve: it is fitted in one pass, or ran too short.</p>"
    unit = "updates" if model.environment is None else "decisions"
    said = {
        "loss": "Loss: how far the predictions were off in each batch. It falls, then stays: what is left is chance.",
        "q": "Mean value of what was shown or chosen: it rises from 0; where it still rises at the end, more updates would move it.",
        "reward": "Reward per decision while exploring.",
        "return": "Mean return of the episodes that ended while exploring, not clipped.",
    }
    out = ["<h2>While it learned</h2>"]
    for key, caption in said.items():
        points = [point for point in curve if key in point]
        if len(points) > 1:
            line = charts.Line(key, [float(point["step"]) for point in points], [float(point[key]) for point in points])
            out.append(picture(charts.lines([line], unit, key), caption))
    return "".join(out)


def _reliability(model: Model) -> str:
    """How often the likeliest item was chosen, beside what the behaviour head said; nothing where no head was calibrated."""
    found = model.metrics.get("calibration") or {}
    if "reliability_after" not in found:
        return f"<h2>Calibration</h2><p>{escape(found['note'])}</p>" if "note" in found else ""
    from qurate.evaluation import charts

    series = [charts.Line("as it should be", [0.0, 1.0], [0.0, 1.0])]
    for name in ("before", "after"):
        sure, share, _ = zip(*found[f"reliability_{name}"], strict=True)
        series.append(charts.Line(f"{name} calibration", list(sure), list(share)))
    said = (
        f"How sure the behaviour head is of its likeliest item, and how often that item was chosen, in decisions that neither training "
        f"nor calibration saw. Mean distance from the diagonal (expected calibration error): {found['ece_before']:.3f} before, "
        f"{found['ece_after']:.3f} after."
    )
    return "<h2>Calibration</h2>" + picture(charts.lines(series, "how sure", "share that was chosen", percent=True), said)


def _verdict(model: Model, dataset: Dataset, name: str) -> tuple[str, str]:
    """The first sentence of the page, and the picture that it rests on."""
    if len(dataset.transitions.action) > LARGEST:
        said = f"No verdict here: the dataset is large. `qurate evaluate {name} DATASET` measures it against the baselines."
        return f'<p class="lead">{escape(said)}</p>', ""
    try:
        result = evaluate(model, dataset, visits=VISITS).to_dict()
    except (UserError, MachineError) as error:  # nothing held out, or the scores of a run that diverged
        return f'<p class="lead">{escape(f"No verdict: {error}.")}</p>', ""
    from qurate.evaluation import charts

    lift = result["lift"]
    metric = lift["metric"] if lift else f"NDCG@{result['k']}"
    rows = {name: result["metrics"][metric], **{one: entry[metric] for one, entry in result["baselines"].items()}}
    bars = [charts.Bar(clean(one), Interval.from_dict(entry), "model" if one == name else "baseline") for one, entry in rows.items()]
    shown = charts.dots(bars, metric, {"model": charts.SERIES[0], "baseline": charts.SERIES[4]}, digits=4)
    words, kind = _lift_words(lift, metric)
    seen = f"{result['n']:,} later choices of {result['users']:,} users that training did not see; {result['caption']}"
    picture_of = "<h2>Against the baselines</h2>" + picture(shown, f"{seen}. Dot: mean. Bar: 95 % interval.")
    return f'<p class="lead {kind}">{words} <span class="caption">({escape(seen)})</span></p>', picture_of


def _lift_words(lift: dict[str, Any] | None, metric: str) -> tuple[str, str]:
    if not lift or lift["mean"] is None:
        return "There is no baseline to compare it with.", ""
    if lift["ci"][0] is None:
        return f"Later choices of one user alone cannot tell whether it ranks them better than {name_cell(lift['over'])} does.", ""
    over, by = name_cell(lift["over"]), f"{figure(lift['mean'], 4, True)} {metric}, 95 % interval {span(lift['ci'], 4, True)}"
    if lift["ci"][0] > 0:
        return f"It ranks what users chose later better than the best baseline, {over}: {by}.", "better"
    if lift["ci"][1] < 0:
        return f"The best baseline, {over}, ranks what users chose later better than it does: {by}.", "worse"
    return f"Whether it ranks what users chose later better than the best baseline, {over}, cannot be told: {by}.", ""
