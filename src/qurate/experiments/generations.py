"""`evaluate MODEL... DATASET`: several models and baselines on the same held-out decisions, also of different catalogues."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qurate.baselines.registry import FITTED, fit_scorer
from qurate.errors import Code, UserError, nearest, whole_number
from qurate.evaluation.contest import contest
from qurate.evaluation.ranking import Ranked, draw_visits, rank_all, ranking_targets
from qurate.evaluation.report import Report
from qurate.events.features import feature_matrix
from qurate.events.frames import Frame
from qurate.events.schema import EventLog
from qurate.experiments.evaluate import exclusion_on, log_discount
from qurate.mdp.dataset import dataset_of
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.training.clocked import with_clocks
from qurate.types import FloatArray, IntArray, Observation, Scorer

K = 20


@dataclass(frozen=True)
class ScorerById:
    """A model that numbers items and event types its own way, asked with a dataset's observations.

    Attributes:
        items: int64 [N + 1], the model's number of each of the dataset's items, 0 = unknown. types: the same of event types.
    """

    model: Model
    items: IntArray
    types: IntArray

    @property
    def name(self) -> str:
        """The model's."""
        return self.model.name

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K] of the dataset's candidates."""
        state, candidates = observation.state, observation.actions.candidates
        state = state._replace(history_items=self.items[state.history_items], history_types=self.types[state.history_types])
        if candidates.strides[0] == 0:
            candidates = np.broadcast_to(self.items[candidates[0]], candidates.shape)
        else:
            candidates = self.items[candidates]
        return self.model.scores(Observation(state, observation.actions._replace(candidates=candidates)))


def evaluate_many(
    contenders: Sequence[str | Path | Model],
    data: Dataset | EventLog | str | Path | Frame,
    *,
    exclude: Sequence[str] = (),
    visits: int | None = 20_000,
) -> Report:
    """Several models and baselines rank the same held-out decisions; the report ends in the one to use, if one can be told.

    Where catalogues differ, all rank the items that all of them know; how many items and decisions that leaves out is said.

    Args:
        contenders: models or their directories, or baselines by name, which are fitted on the dataset; the first is the subject.
        data: a dataset or its directory, a log, or a DataFrame that is one; its test split is ranked.
        exclude: what is not shown again; by default as the first model recommends.
        visits: held-out visits ranked, drawn with seed 0 where there are more; None = all.

    Raises:
        UserError: fewer than two contenders, one of them twice, a name that is neither, or no common item that was chosen.

    >>> qurate.evaluate_many([qurate.train(log, algorithm="item_knn"), "popularity"], log).to_dict()["verdict"]
    'insufficient'
    """
    given = _by_name(contenders)
    names = list(given)
    dataset, on = dataset_of(data), str(data) if isinstance(data, str | Path) else "dataset"
    models = {name: model for name, model in given.items() if model is not None}
    if (clocked := next((model for model in models.values() if model.lists is not None), None)) is not None:
        dataset = with_clocks(dataset, clocked.settings)  # and every contender ranks its shortlists
    rule = exclusion_on(next(iter(models.values()), None), exclude, dataset)
    known = {name: _numbers(dataset.vocabulary.items, model.vocabulary.items) for name, model in models.items()}
    common = np.ones(len(dataset.vocabulary.items) + 1, np.bool_)
    for numbers in known.values():
        common &= numbers > 0
    common[0] = False
    rows = ranking_targets(dataset)
    rows = rows if visits is None else draw_visits(dataset, rows, whole_number(visits, "--visits", 1, Code.BAD_EVALUATE), 0)
    inside = rows[common[dataset.transitions.action[rows]]]
    if not inside.size:
        got, hint = f"none among the {int(common.sum())} items that all know", "give models of the same shop"
        raise UserError("later choices of items that every model knows", got, where=on, hint=hint, code=Code.NO_TARGETS)
    ranked: dict[str, Ranked] = {}
    window = max((model.window for model in models.values()), default=50)
    opened = np.zeros(0, np.bool_)
    for name in names:
        scorer, view, length = _asked(name, models.get(name), known.get(name), dataset, window)
        result, opened = rank_all(view, inside, {name: scorer}, K, length, None if rule is None else rule[1], common)
        ranked |= result
    result_json = contest(on, dataset, inside, ranked, int(opened.sum()), k=K, discount=log_discount([*models.values()], dataset))
    late = _reaches_into(models, dataset, inside)
    notes = _left_out(dataset, common, rows, inside)
    notes += [f"The log of {name} is another one and goes on into the held-out time: its figures may be too good." for name in late]
    if result_json["verdict"] == "use" and result_json["best"] in late:
        ahead = f"{result_json['best']} is ahead, but its log goes on into the held-out time"
        result_json |= {"verdict": "insufficient", "sentence": f"Not enough evidence: {ahead}."}
    more = {"candidates": float(opened.sum()), "exclude": "none" if rule is None else rule[0], "notes": notes}
    return Report(result_json | more, f"{', '.join(names)} on {on}", notes=[result_json["sentence"], *notes])


def _by_name(contenders: Sequence[str | Path | Model]) -> dict[str, Model | None]:
    """Each contender by its name: None for baselines; models that are objects have the name of their algorithm, with a number
    where it is taken.

    Raises:
        UserError: see `evaluate_many`.
    """
    names = [one for one in contenders if not isinstance(one, Model)]
    if len(contenders) < 2 or len(set(map(str, names))) < len(names):
        got = "one" if len(contenders) < 2 else "one of them twice"
        raise UserError("two or more models or baselines", got, where="evaluate", hint="name others", code=Code.BAD_EVALUATE)
    for name in map(str, names):
        if name not in FITTED and not Path(name).is_dir():
            raise UserError("a model directory or a baseline", name, where="evaluate", hint=nearest(name, FITTED), code=Code.UNKNOWN_POLICY)
    out: dict[str, Model | None] = {}
    for one in contenders:
        if isinstance(one, Model):
            free = (f"{one.algorithm} {i}" for i in range(2, len(contenders) + 3))
            taken = {*out, *FITTED, *map(str, names)}
            out[one.algorithm if one.algorithm not in taken else next(name for name in free if name not in out)] = one
        else:
            out[str(one)] = None if str(one) in FITTED else load(one)
    return out


def _numbers(theirs: Sequence[str], ours: Sequence[str]) -> IntArray:
    """int64 [N + 1]: the number in `ours` of each of `theirs`, from 1; 0 = unknown, and padding."""
    index = {one: i + 1 for i, one in enumerate(ours)}
    return np.array([0, *(index.get(one, 0) for one in theirs)], np.int64)


def _asked(name: str, model: Model | None, items: IntArray | None, dataset: Dataset, window: int) -> tuple[Scorer, Dataset, int]:
    """A contender's scorer, the dataset with users' features as it reads them, and its history window."""
    if model is None or items is None:
        return fit_scorer(name, dataset), dataset, window
    if model.vocabulary == dataset.vocabulary and model.user_spec == dataset.user_spec:
        return model, dataset, model.window
    types = _numbers(dataset.vocabulary.types, model.vocabulary.types)
    features, _ = (
        feature_matrix(dataset.users, model.user_spec) if model.user_spec else (np.zeros((dataset.users.height, 0), np.float32), {})
    )
    return ScorerById(model, items, types), replace(dataset, user_features=features), model.window


def _left_out(dataset: Dataset, common: NDArray[np.bool_], rows: IntArray, inside: IntArray) -> list[str]:
    items = len(common) - 1
    if int(common.sum()) == items:
        return []
    return [
        f"The catalogues differ: ranked are the {int(common.sum()):,} of {items:,} items that every model knows; "
        f"{rows.size - inside.size:,} of {rows.size:,} later choices were of other items and are left out."
    ]


def _reaches_into(models: dict[str, Model], dataset: Dataset, rows: IntArray) -> list[str]:
    """The names of models of other logs that go on after the held-out time begins: they may have learned from what they are asked."""
    t, cuts = dataset.transitions, dataset.manifest["splits"]["cuts_us"]
    # Of what customers chose the clock is that of the event before, which may lie long before the held-out time.
    first = int(t.clock[t.state[rows]].min()) if cuts is None else cuts[1] - 1
    return [
        name
        for name, model in models.items()
        if model.histories is not None and model.histories.log_end > first and not _is_of(dataset, model)
    ]


def _is_of(dataset: Dataset, model: Model) -> bool:
    """Whether the model was trained on this dataset, which may never have been written, or is the same log ingested again."""
    if dataset.sha256 and model.provenance.dataset_sha256 == dataset.sha256:
        return True
    past, rows = model.histories, dataset.arrays
    if past is None or model.vocabulary != dataset.vocabulary:
        return False
    return all(np.array_equal(getattr(past.arrays, name), getattr(rows, name)) for name in ("user_start", "time", "item"))
