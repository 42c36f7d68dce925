"""Customers from a log: event models of what they do when an item is shown, and when they leave and return.

The event models are those of `networks/event_network.py`, kept from the update after which held-out events were predicted best
(`later_from_log.Checks`). Only what the fitted customers themselves do stands in the histories they are fitted to: the events that are
rewarded, and what was shown. The validation split stops the training and scales the probabilities; the test split stays untouched.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

import qurate
from qurate.algorithms.event_models import event_models
from qurate.environments.customer_response import Response
from qurate.environments.fitted_customers import Customers, Facts
from qurate.environments.scenarios.fitted import MOST_EVENTS
from qurate.errors import Code, UserError
from qurate.events.features import feature_names
from qurate.events.vocabulary import Vocabulary
from qurate.learning.learner import Learner
from qurate.learning.loops import Progress, train_from_log
from qurate.mdp.rewards import DERIVED
from qurate.mdp.storage import Dataset
from qurate.networks.build import build_network
from qurate.networks.event_network import EventNetwork
from qurate.networks.linear_later import LinearLaterNetwork
from qurate.replay.event_replay import EventReplay
from qurate.replay.samplers import LogSampler
from qurate.replay.writers import store_from_log
from qurate.settings import Settings
from qurate.settings import replace as with_leaves
from qurate.training.customer_export import export_arrays, response_of_rows
from qurate.training.customer_visits import LEAST_OF_EACH, Visits, fit_visits, logistic, visits_of
from qurate.training.later_from_log import LEAST_HELD_OUT, Checks, set_shape
from qurate.types import TRAIN, VALID, FloatArray, IntArray

log = logging.getLogger(__name__)

LEAST_DECISIONS = 10 * LEAST_HELD_OUT
"""Decisions of a log from which customers can be fitted: a tenth of them is held out twice, for stopping and for the report."""
LEAVES: dict[str, Any] = {"form": "linear_later", "window": 20, "embedding_dim": 16, "hidden": 64, "ema": 0.99, "passes": 10.0}
LEAST_UPDATES = 2_000
"""At most so many updates, or 10 passes where those are more."""
PATIENCE = 6
"""Looks at held-out events without a better one before the training stops."""
PRIOR, LEAST_RATE = 30.0, 1e-4
QUANTILES = 65
SHOWN = "shown"


@dataclass(frozen=True)
class Fit:
    """Customers, and what their report is made from."""

    customers: Customers
    data: Dataset  # as the customers see it: their own events alone
    events: list[int]  # [R] which of the dataset's components
    visits: Visits


def fit_customers(
    dataset: Dataset, *, seed: int = 0, budget: float | None = None, progress: Callable[[int, int], None] | None = None
) -> Fit:
    """Fits customers to a dataset.

    Args:
        seed: of the first weights and the batches.
        budget: seconds after which the event models stop; None: they stop when held-out events are predicted no better, or after 10
            passes (2,000 updates, if that is more).
        progress: called with (updates done, updates at most).

    Raises:
        UserError: the log is too small (says how many decisions are needed), or has more than 9 rewarded event types.
    """
    _require_enough(dataset)
    data, events = own_events(dataset)
    settings = with_leaves(Settings(), **LEAVES)
    t = data.transitions
    reward = t.reward[:, events]
    store = store_from_log(
        data.arrays, replace(t, reward=reward), np.ones(len(events), np.float32), data.user_features, 0.0, 1.0, settings.network.window,
        data.availability,
    )  # fmt: skip
    train, valid = (LogSampler(t, split).index for split in (TRAIN, VALID))
    network, figures = _event_network(data, store, settings, train, valid, seed=seed, budget=budget, progress=progress)
    arrays = export_arrays(network, np.bincount(t.action[train], minlength=len(data.item_features))) | _people(data)
    arrays |= _scaled(arrays, data, reward, valid, settings.network.window) | _values(data, events)
    happened = np.zeros((len(t.user), len(events)), np.bool_)
    np.logical_or.at(happened, t.state, reward != 0)
    visits = visits_of(data, happened, np.asarray(arrays["vectors"], np.float64))
    model = fit_visits(data, visits)
    arrays |= model.arrays | _residuals(arrays, data, reward, train, settings.network.window)
    customers = Customers(_facts(data, events, settings, model.returns, figures | model.figures), arrays, _items(data))
    return Fit(customers, data, events, visits)


def own_events(dataset: Dataset) -> tuple[Dataset, list[int]]:
    """The dataset whose histories hold rewarded events and what was shown alone, its catalogue what could be shown in training; and
    which components are events.

    Raises:
        UserError: too many of them.
    """
    events = [i for i, name in enumerate(dataset.components) if name not in DERIVED]
    if len(events) > MOST_EVENTS:
        hint = "give fewer --rewards when the log is ingested"
        raise UserError(f"at most {MOST_EVENTS} rewarded event types", str(len(events)), where="dataset", hint=hint, code=Code.BAD_REWARD)
    types = dataset.vocabulary.types
    kept = [name for name in types if name == SHOWN or name in {dataset.components[i] for i in events}]
    number = np.zeros(len(types) + 1, np.uint8)
    for i, name in enumerate(types):
        number[i + 1] = kept.index(name) + 1 if name in kept else 0
    arrays, n = dataset.arrays, dataset.n_ever_available
    keep = number[arrays.type] > 0
    before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
    item = arrays.item[keep]
    own = replace(
        arrays, item=np.where(item <= n, item, 0).astype(np.int32), type=number[arrays.type[keep]], time=arrays.time[keep],
        value=arrays.value[keep], user_start=before[arrays.user_start],
    )  # fmt: skip
    t = dataset.transitions
    chosen = np.minimum(t.history_end, len(arrays.time) - 1)  # the row of what was chosen, where that is all a log says
    clock = arrays.time[chosen] if dataset.kind == "organic" else t.clock
    data = replace(
        dataset, arrays=own, transitions=replace(t, history_end=before[t.history_end], clock=clock),
        item_features=dataset.item_features[: n + 1],
        vocabulary=Vocabulary(dataset.vocabulary.items[:n], tuple(kept)), row_visit=dataset.row_visit[keep], items=dataset.items.head(n),
    )  # fmt: skip
    return data, events


def _require_enough(dataset: Dataset) -> None:
    t = dataset.transitions
    count = np.bincount(t.split, minlength=3)
    if count[TRAIN] < LEAST_DECISIONS * 8 // 10 or count[VALID] < LEAST_HELD_OUT:
        got = f"{len(t.user):,}, of which {count[TRAIN]:,} train and {count[VALID]:,} are held out"
        expected = f"a log of at least {LEAST_DECISIONS:,} decisions ({LEAST_HELD_OUT} held out) to learn customers from"
        raise UserError(expected, got, where=dataset.path or "dataset", hint="ingest a longer log", code=Code.TOO_FEW_ROWS)


def _event_network(
    data: Dataset, store: EventReplay, settings: Settings, train: IntArray, valid: IntArray, *, seed: int, budget: float | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[EventNetwork, dict[str, Any]]:  # fmt: skip
    """The event models that predict held-out events best."""
    reward = store.tables.reward[train]
    built = build_network(
        data.item_features, settings, n_types=data.vocabulary.n_types, user_dim=data.user_features.shape[1],
        n_components=reward.shape[1], behaviour=False, seed=seed,
    )  # fmt: skip
    network = EventNetwork(cast(LinearLaterNetwork, built).now.heads)  # what a world reads as arrays has no terms of categories
    set_shape(network, reward)
    start_at_item_rates(network, reward, data.transitions.action[train])
    learner = Learner(network, event_models, settings.learning, seed=seed)
    sampler, rng, began = LogSampler(data.transitions), np.random.default_rng(seed), time.monotonic()
    sampler.index = train[known_items(data, train)]
    per_pass = max(1, len(sampler.index) // settings.learning.batch_size)
    checks = Checks(learner, store, valid[known_items(data, valid)], per_pass, seed)
    checks.look()
    most = max(LEAST_UPDATES, int(settings.learning.passes * per_pass))
    for step in _stopping(checks.watch(train_from_log(learner, store, sampler, rng, settings)), checks):
        if progress is not None and step.steps % 100 == 0:
            progress(step.steps, most)
        if step.steps >= most or (budget is not None and time.monotonic() - began > budget):
            break
    figures = {"updates": learner.updates, "kept_after": checks.updates, "held_out_loss": checks.loss,
               "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    return checks.network(), {"response": figures}


@torch.no_grad()
def start_at_item_rates(network: EventNetwork, reward: FloatArray, action: NDArray[np.int32]) -> None:
    """Makes the rates of the items the network's first answer: from zero, rates of single items would take longer to learn than noise.

    An item's rate is shrunk towards the mean by `PRIOR` decisions.

    Args:
        reward, action: [T, R] and [T] of the training transitions.
    """
    tower, heads = network.heads.tower, network.heads
    if tower.id_bias is None:
        return
    n = len(tower.id_bias)
    known, happened, parents = action < n, reward != 0, network.get_buffer("chain").numpy() - np.eye(reward.shape[1])
    for event in range(reward.shape[1]):
        asked = known & ((1 - happened) @ parents[event] == 0)
        rate = happened[asked, event].mean() if asked.any() else 0.0
        count, sums = (np.bincount(action[asked], of, n) for of in (np.ones(asked.sum()), happened[asked, event]))
        shrunk = np.clip((sums + PRIOR * rate) / (count + PRIOR), LEAST_RATE, 1 - LEAST_RATE)
        own = np.log(shrunk / (1 - shrunk))
        base = float(own[0])  # nothing is counted of padding: the mean rate
        bias = torch.from_numpy(own - base).float()
        tower.id_bias[:, event] = bias
        heads.value.bias[event] = base + bias[1:].mean()


def known_items(data: Dataset, rows: IntArray) -> NDArray[np.bool_]:
    """Which transitions are of items of the customers' catalogue."""
    return data.transitions.action[rows] < len(data.item_features)


def _stopping(loop: Iterator[Progress], checks: Checks) -> Iterator[Progress]:
    """The loop until held-out events were not predicted better for some time."""
    for step in loop:
        yield step
        if step.steps - checks.updates > PATIENCE * checks.every:
            return


def _scaled(arrays: dict[str, NDArray[Any]], data: Dataset, reward: FloatArray, rows: IntArray, window: int) -> dict[str, NDArray[Any]]:
    """Platt's scaling with what happened before, from held-out transitions: order, slope, shift, pair, told."""
    count, chain = (reward != 0).sum(0), arrays["chain"]
    order = np.lexsort((-count, chain.sum(1)))
    n = len(order)
    out: dict[str, NDArray[Any]] = {
        "order": order, "slope": np.ones(n), "shift": np.zeros(n), "pair": np.zeros((n, n)),
        "told": np.zeros((n, n)),
    }  # fmt: skip
    rows = rows[known_items(data, rows)]
    response = Response(arrays | out)
    logits, _ = response_of_rows(response, data, rows, window)
    alone = response.alone(logits)
    happened = (reward[rows] != 0).astype(np.float64)
    for place, event in enumerate(order):
        asked = (1 - happened) @ (chain[event] - np.eye(n)[event]) == 0
        y = happened[asked, event]
        if min(y.sum(), len(y) - y.sum()) < LEAST_OF_EACH:
            continue
        beside = [j for j in order[:place] if not chain[event, j]]
        x = np.column_stack([np.ones(len(y)), logits[asked, event], happened[np.ix_(asked, beside)], alone[np.ix_(asked, beside)]])
        weights = logistic(x, y)
        if weights[1] > 0:
            out["shift"][event], out["slope"][event] = weights[:2]
            out["pair"][event, beside], out["told"][event, beside] = weights[2 : 2 + len(beside)], -weights[2 + len(beside) :]
    return out


def _residuals(
    arrays: dict[str, NDArray[Any]], data: Dataset, reward: FloatArray, rows: IntArray, window: int
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """How amounts scatter about what is expected, in units of `spread`, as quantiles [R, Q]; and their limits [R, 2]."""
    rows = rows[known_items(data, rows)]
    some = rows if len(rows) <= 20_000 else rows[np.random.default_rng(0).permutation(len(rows))[:20_000]]
    _, sizes = response_of_rows(Response(arrays), data, some, window)
    n = reward.shape[1]
    table, limits = np.zeros((n, QUANTILES)), np.ones((n, 2))
    for event in range(n):
        own = reward[some, event].astype(np.float64)
        here = own != 0
        if here.any():
            limits[event] = own[here].min(), own[here].max()
        if here.any() and arrays["spread"][event] > 0:
            residual = (own[here] - arrays["amount"][event]) / arrays["spread"][event] - sizes[here, event]
            table[event] = np.quantile(residual, np.linspace(0, 1, QUANTILES))
    return {"residual": table, "limits": limits}


def _people(data: Dataset) -> dict[str, NDArray[Any]]:
    """Features of the users of training: as the network sees them, and in the log's own units."""
    t = data.transitions
    own = data.user_features[np.unique(t.user[t.split == TRAIN])]
    scale = {c["name"]: (c["mean"], c["std"]) for c in data.user_spec.get("columns", []) if c["kind"] == "numeric"}
    names = feature_names(data.user_spec) if own.shape[1] else []
    mean, std = (np.array([scale.get(name, (0.0, 1.0))[part] for name in names], np.float32) for part in (0, 1))
    return {"people": own, "people_visible": (own * std + mean).astype(np.float32), "item_features": data.item_features}


def _values(data: Dataset, events: list[int]) -> dict[str, NDArray[Any]]:
    """Mean value of the log's events of each rewarded type, [R]: what a row of an event shows whose value is no reward."""
    arrays, types = data.arrays, data.vocabulary.types
    out: list[float] = []
    for i in events:
        name = data.components[i]
        values = arrays.value[arrays.type == types.index(name) + 1] if name in types else np.zeros(0)
        out.append(float(values.mean()) if len(values) else 0.0)
    return {"log_value": np.array(out, np.float32)}


def _facts(data: Dataset, events: list[int], settings: Settings, returns: bool, figures: dict[str, Any]) -> Facts:
    names, rewards = [data.components[i] for i in events], data.manifest["rewards"]
    types = data.vocabulary.types
    return Facts(
        qurate=qurate.__version__, dataset_sha256=data.sha256, kind=data.kind, item_ids=list(data.vocabulary.items),
        type_names=[*types, *([] if SHOWN in types else [SHOWN])], events=names,
        per_value=[rewards[name].get("per") == "value" for name in names], components=list(data.components),
        weights=[float(w) for w in data.weights], feature_names=feature_names(data.item_spec) if data.item_features.shape[1] else [],
        user_feature_names=feature_names(data.user_spec) if data.user_features.shape[1] else [], window=settings.network.window,
        returns=returns, figures=figures,
    )  # fmt: skip


def _items(data: Dataset) -> Any:
    """The catalogue without the log's times: every item can be shown at any time."""
    return data.items.drop("available_from", "available_until", strict=False)
