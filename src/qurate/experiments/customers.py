"""`customers`: fits customers to a dataset, says how far they may be trusted, and writes them for the world `fitted`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qurate.baselines.registry import fit_popularity, fit_scorer, random_policy
from qurate.choosing.policy import ScoredPolicy
from qurate.environments.customer_response import Response
from qurate.environments.engine import BatchedEngine
from qurate.environments.fitted_customers import Customers, read_customers, write_customers
from qurate.environments.registry import make_engine
from qurate.environments.scenarios.fitted import FittedCustomers, chance
from qurate.environments.scenarios.fitted_references import expected_of
from qurate.errors import UserError
from qurate.evaluation.customer_ranking import Reversed, rank_policies, spearman
from qurate.evaluation.customer_validity import Rows, amount_figures, binary_figures, event_figures
from qurate.evaluation.rollouts import customers_seed, rollout
from qurate.mdp.storage import Dataset
from qurate.models.translate import TranslatedScorer, Translation
from qurate.outputs import CUSTOMERS, DATASET, check_directory
from qurate.training.customer_export import response_of_rows, seen_of
from qurate.training.fit_customers import Fit, fit_customers, known_items
from qurate.types import TEST, TRAIN, VALID, FloatArray, IntArray, Policy, Scorer

POLICIES = ("random", "popularity", "content", "item_knn", "ease", "als")
"""Orders that are compared, beside that of the least popular items and the customers' own."""
MOST_RANKED = 20_000
"""Held-out decisions on which policies are compared, drawn without replacement."""
ROLLOUT_CUSTOMERS = 2_000

Report = Callable[[str, int, int], None]


def customers(
    dataset: str | Path | Dataset,
    out: str | Path | None = None,
    *,
    seed: int = 0,
    budget: float | None = None,
    truth: str | None = None,
    force: bool = False,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Fits customers, and writes them with the report of their validity to `out`.

    Args:
        dataset: a dataset or its directory. out: the directory of the customers; None: nothing is written.
        seed: of the fit. budget: seconds after which the event models stop, as in `fit_customers`.
        truth: the world that wrote the log, where it is known: values of policies in it are compared with those among the customers.
        force: replace what is at `out`.

    Raises:
        UserError: the log is too small, or something else is at `out`.
    """
    if out is not None:
        check_directory(out, CUSTOMERS, force, [dataset] if isinstance(dataset, str | Path) else [])
    if truth is not None:
        make_engine(truth)  # a name that is none is found before the fit
    data = dataset if isinstance(dataset, Dataset) else Dataset.read(dataset)
    say: Report = progress or (lambda what, done, total: None)
    fit = fit_customers(data, seed=seed, budget=budget, progress=lambda done, most: say("fitting", done, most))
    say("checking", 0, 0)
    report = validity(data, fit)
    if truth is not None:
        report["truth"] = against_truth(data, fit.customers, truth, seed, say)
    kept = replace(fit.customers, validity=report)
    if out is not None:
        kept = write_customers(kept, out, force=force)
    facts = kept.facts
    return {
        "customers": None if kept.path is None else str(out), "kind": data.kind, "items": len(facts.item_ids), "events_of": facts.events,
        "fit": facts.figures, **report,
    }  # fmt: skip


def ready(path: str | Path, seed: int = 0, progress: Report | None = None) -> Path:
    """Customers at a path: the path itself, or those of the dataset there, fitted at the first time and kept beside it.

    Raises:
        UserError: as for `customers`.
    """
    place = Path(path)
    if not (place / DATASET).is_file():
        return place
    data, beside = Dataset.read(place), place.absolute().with_name(f"{place.absolute().name}.customers")
    if (beside / CUSTOMERS).is_file() and read_customers(beside).facts.dataset_sha256 == data.sha256:
        return beside
    customers(data, beside, seed=seed, progress=progress)
    return beside


def validity(dataset: Dataset, fit: Fit) -> dict[str, Any]:
    """Figures on the test split, which the fit never saw."""
    data, names = fit.data, fit.customers.facts.events
    rows = {split: _rows(fit, split) for split in (TRAIN, VALID, TEST)}
    index = _index(fit, TEST)
    response = Response(fit.customers.arrays)
    logits, sizes = response_of_rows(response, data, index, fit.customers.facts.window)
    p, test = response.marginals(logits), rows[TEST]
    out: dict[str, Any] = {"decisions": len(np.unique(data.transitions.state[index]))}
    out["events"] = event_figures(names, p, rows[TRAIN], rows[VALID], test)
    out["amounts"] = amount_figures(names, response.amounts(sizes), rows[TRAIN], test)
    out["visits"] = _visits(fit)
    out["ranking"] = _ranking(dataset, fit, response)
    out["notes"] = _notes(dataset, fit)
    return out


def _index(fit: Fit, split: int) -> IntArray:
    t = fit.data.transitions
    rows = np.flatnonzero(t.split[t.state] == split)
    return rows[known_items(fit.data, rows)]


def _rows(fit: Fit, split: int) -> Rows:
    t, index = fit.data.transitions, _index(fit, split)
    reward = t.reward[index][:, fit.events].astype(np.float64)
    return Rows(t.user[t.state[index]].astype(np.int64), t.action[index].astype(np.int64), (reward != 0).astype(np.float64), reward)


def _visits(fit: Fit) -> dict[str, Any]:
    """Leaving and returning on the test split; nothing where visits are episodes and nobody returns."""
    t, visits, arrays = fit.data.transitions, fit.visits, fit.customers.arrays
    out: dict[str, Any] = {}
    for name, label in (("leave", visits.ended), ("return", visits.returned)):
        known = (t.split == TEST) & (label >= 0)
        if not known.any() or (name == "return" and not fit.customers.facts.returns):
            continue
        y = label[known].astype(np.float64)
        out[name] = binary_figures(
            chance(visits.x[known], arrays[name]), y, float(fit.customers.facts.figures[name]["rate"]), t.user[known]
        )
    return out


def _ranking(dataset: Dataset, fit: Fit, response: Response) -> dict[str, Any]:
    """Whether the customers rank policies as the held-out decisions do."""
    t = fit.data.transitions
    if dataset.kind != "logged" or len(t.state) != len(t.user):
        what = "does not say with which probability items were shown" if dataset.kind != "logged" else "shows lists"
        return {"refused": f"the log {what}: whether these customers rank policies as it does cannot be say"}
    index = _index(fit, TEST)
    if len(index) > MOST_RANKED:
        index = np.sort(np.random.default_rng(0).choice(index, MOST_RANKED, replace=False))
    world = FittedCustomers(fit.customers)
    window, weights = fit.customers.facts.window, world.event_weights()

    def expected(states: IntArray) -> FloatArray:
        return expected_of(response, seen_of(fit.data, states, window), weights, len(world.item_ids))

    reward = (t.reward[index][:, fit.events] @ np.array([dataset.weights[i] for i in fit.events], np.float32)).astype(np.float32)
    scorers = [scorer for _, scorer in orders(dataset)]
    return rank_policies(dataset, index, scorers, expected, reward, t.propensity[index])


def orders(dataset: Dataset) -> list[tuple[str, Scorer]]:
    """The policies that are compared, fitted to the training split; those that this log cannot have are left out."""
    out: list[tuple[str, Scorer]] = []
    for name in POLICIES:
        try:
            out.append((name, fit_scorer(name, dataset)))
        except UserError:
            continue  # content needs item features, als a package
    popularity = fit_popularity(dataset)
    return [*out, ("least_popular", Reversed(popularity, "least_popular"))]


def against_truth(
    dataset: Dataset, fitted: Customers, truth: str, seed: int = 0, progress: Report | None = None
) -> dict[str, Any]:  # fmt: skip
    """Mean returns of policies in the world that wrote the log, and among customers learned from it.

    Returns:
        `{"world", "policies": [{"name", "world", "customers"}], "rank_correlation", "customers"}`.
    """
    worlds: dict[str, BatchedEngine] = {"world": make_engine(truth), "customers": BatchedEngine(FittedCustomers(fitted))}
    rows: list[dict[str, Any]] = []
    named = orders(dataset)
    for i, (name, scorer) in enumerate(named):
        row: dict[str, Any] = {"name": name}
        for key, engine in worlds.items():
            if progress is not None:
                progress("comparing with the truth", 2 * i + (key != "world"), 2 * len(named))
            run = rollout(engine, _policy(name, scorer, dataset, engine), customers_seed(seed, "evaluate"), ROLLOUT_CUSTOMERS)
            row[key] = float(run.returns.mean())
            row[f"{key}_length"] = float(run.length.mean())
        rows.append(row)
    correlation = spearman([row["world"] for row in rows], [row["customers"] for row in rows])
    return {"world": truth, "policies": rows, "rank_correlation": correlation, "customers": ROLLOUT_CUSTOMERS}


def _policy(name: str, scorer: Scorer, dataset: Dataset, engine: BatchedEngine) -> Policy:
    if name == "random":
        return random_policy()
    translation = Translation(engine, dataset.vocabulary, dataset.user_spec)
    return ScoredPolicy(TranslatedScorer(scorer, translation), name=name)


def _notes(dataset: Dataset, fit: Fit) -> list[str]:
    notes = []
    if dataset.kind == "organic":
        notes.append(
            "The log says what customers chose, not what they were shown: these customers answer any item as if they had chosen it."
        )
    if dataset.kind == "exposure":
        notes.append(
            "The log shows what its own policy picked for each customer: for other items the response is an extrapolation that nothing "
            "here checks."
        )
    if len(fit.data.transitions.state) != len(fit.data.transitions.user):
        notes.append("The log shows lists: each item of a list is a decision here, and at most one item of a slate is chosen.")
    if not fit.data.user_features.shape[1]:
        notes.append("Nothing is known of users beside their events: all customers begin alike.")
    return notes
