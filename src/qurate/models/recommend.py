"""Recommendations for the users of a training log, or for a given history: one by one, or for everybody."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from msgspec import UNSET

from qurate.arguments import check_flag, check_kind, checked_seed
from qurate.choosing.seen import NOTHING_EXCLUDED, SeenRule, parse_exclude
from qurate.decision import Decision, HistoryRows
from qurate.errors import Code, UserError, nearest
from qurate.events.schema import FLOAT32_MAX
from qurate.events.titles import titles
from qurate.mdp.candidate_features import PLACE
from qurate.mdp.storage import Dataset
from qurate.models.answer import AnswerRequest, decide, decide_all, observe
from qurate.models.histories import EMPTY_HISTORY, Histories, encode_context, parse_history
from qurate.models.parts import ModelParts

log = logging.getLogger("qurate.models")

BATCH = 256
NAMED_IDS = 5
"""A note of unknown ids names so many known ones."""


@lru_cache(maxsize=2)
def _read_histories(path: str, digest: str | None) -> tuple[Histories, str | None]:
    dataset = Dataset.read(path)
    return Histories.of(dataset), dataset.sha256


def histories_of(model: ModelParts) -> Histories | None:
    """Those that the model holds, else of the dataset it was trained from; None where that is no longer there.

    Raises:
        UserError: another dataset stands in its place.
    """
    if model.histories is not None:
        return model.histories
    if model.dataset is None or not Path(model.dataset).is_dir():
        return None
    found, digest = _read_histories(model.dataset, model.provenance.dataset_sha256)
    if digest != model.provenance.dataset_sha256:
        expected, hint = "the dataset the model was trained from", "ingest it again"
        raise UserError(expected, "another one", where=str(model.dataset), hint=hint, code=Code.OTHER_DATASET)
    return found


@lru_cache  # once for a model, not once for a user
def note_once(text: str) -> None:
    """Says `text` the first time."""
    log.warning(text)


def _missing(model: ModelParts) -> str:
    """What stands where the training dataset should."""
    if model.dataset is not None:
        return "no such directory"
    return "a model that was not trained from one" if model.kind == "environment" else "one that was never written to a directory"


def nobody_known(model: ModelParts) -> str:
    """The note for a model whose training dataset is not there."""
    where = model.dataset or "model"
    return f"note: no user of the training log is known: expected the training dataset, got {_missing(model)}, at {where}"


def clock_for(model: ModelParts, rows: HistoryRows, log_end: int) -> int:
    """When a decision for this history is made, in microseconds.

    An organic log has no request times: its decisions are made at the customer's last event. In the other kinds the
    customer is taken to come back at the end of the log; so is everybody where counters of that moment decide.
    """
    newest = int(rows.times[-1]) if len(rows.times) else log_end
    return newest if model.kind == "organic" and model.lists is None else max(newest, log_end)


def require_catalogue(model: ModelParts, where: str) -> None:
    """Refuses a model of a Gymnasium task: its actions are not items that could be shown to a user.

    Raises:
        UserError: it is one.
    """
    if model.kind == "task":
        got, hint = f"one of the task {model.environment}", "it acts in its task: qurate evaluate MODEL --env ID"
        raise UserError("a model of a catalogue", got, where=where, hint=hint, code=Code.OTHER_ENVIRONMENT)


def note_slate_size(model: ModelParts, k: int) -> None:
    """Says once where lists of k items are asked of a model that values slates of another size."""
    own = model.slate_size
    if own is not None and k != own:
        note_once(f"note: the model was trained to show {own} items at once: what {k} together are worth it never learnt")


def check_candidate_features(
    features: Mapping[str, Sequence[float | None]],
    candidates: Sequence[str] | None,
    *,
    where: str,
    joint: str = ".",
    code: Code = Code.BAD_CANDIDATE_FEATURES,
) -> None:
    """What is said of candidates must be as long as they are.

    Args:
        where: what the caller calls `features`. joint: stands between it and a feature's name.

    Raises:
        UserError: there are no candidates, or a list of another length; `code`.
    """
    given: object = features
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        hint = 'write {"price": [9.5, 12]}'
        raise UserError("lists of numbers by name", f"{features!r:.60}", where=where, hint=hint, code=code)
    if candidates is None:
        hint = "name the candidates that these values are of"
        raise UserError("candidates, as features of candidates are given", "none", where=where, hint=hint, code=code)
    for name, values in features.items():
        listed: object = values
        if not isinstance(listed, list | tuple | np.ndarray) or len(listed) != len(candidates):
            got = str(len(listed)) if isinstance(listed, list | tuple | np.ndarray) else repr(listed)
            hint = "give one number for each candidate, in their order; null where it is not known"
            raise UserError(f"{len(candidates)} numbers for {name}", got, where=f"{where}{joint}{name}", hint=hint, code=code)
        wrong = next((i for i, value in enumerate(values) if not _is_number(value)), None)
        if wrong is not None:
            place, hint = f"{where}{joint}{name}[{wrong}]", "null where it is not known"
            raise UserError("a number within float32", f"{values[wrong]!r:.60}", where=place, hint=hint, code=code)


def _is_number(value: object) -> bool:
    """A number that fits, None or NaN."""
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return False
    number: Any = value
    return bool(number != number or abs(number) < FLOAT32_MAX)


def _name_unused(model: ModelParts, features: Mapping[str, object]) -> None:
    used = model.candidate_columns
    unused, missing = sorted(set(features) - set(used)), sorted(set(used) - set(features) - {PLACE})
    if unused:
        log.warning("note: the model does not use %s of candidates; it uses %s", ", ".join(unused), ", ".join(used) or "nothing of them")
    if missing and not unused:
        log.warning("note: the model also uses %s of candidates: not known here", ", ".join(missing))


def recommend(
    model: ModelParts,
    user: str | None,
    k: int,
    *,
    candidates: Sequence[str] | None = None,
    candidate_features: Mapping[str, Sequence[float | None]] | None = None,
    exclude: Sequence[str] = (),
    context: dict[str, Any] | None = None,
    history: Sequence[dict[str, Any]] | None = None,
    explain: bool = False,
    seed: int = 0,
) -> Decision:
    """See `Model.recommend`."""
    _check_k(k)
    require_catalogue(model, "recommend")
    seed = checked_seed(seed)
    check_flag(explain, "explain")
    if explain and model.settings.of_the_sum:
        got, hint = f"{model.algorithm}, which learns their weighted sum", "leave explain out, or train dqn"
        raise UserError("an algorithm with a value for each reward component", got, where="explain", hint=hint, code=Code.BAD_OPTIONS)
    exclude, candidates, user = _listed(exclude) or (), _listed(candidates), None if user is None else _text(user)
    for name, given in (("candidates", candidates), ("exclude", exclude)):
        if isinstance(given, str) or (given is not None and not isinstance(given, Iterable)):  # letters would be the ids
            raise UserError("a list of item ids", repr(given), where=name, hint=f"write {name}=[{given!r}]", code=Code.BAD_IDS)
    exclude, candidates = list(map(_text, exclude)), None if candidates is None else list(map(_text, candidates))
    note_slate_size(model, k)
    known, rows, features, log_end = False, EMPTY_HISTORY, None, time.time_ns() // 1000
    past = None
    if user is not None and history is None:
        past = histories_of(model)
        if past is None and model.kind != "environment":
            note_once(nobody_known(model))
    if past is not None and user in past.index:
        number = past.index[user]
        known, rows, features, log_end = True, past.rows(number), past.features(number), past.log_end
    if history is not None:
        known, rows = True, parse_history(model.vocabulary, history)
        log_end = int(rows.times[-1]) if len(rows.times) else log_end
    check_kind(context, Mapping, "context", "features of the customer by name")
    if context:
        features, known = encode_context(model.user_spec, context), True
    clock = clock_for(model, rows, log_end)
    unwanted, rule = exclusion(model, exclude)
    _name_unknown(model, candidates or (), unwanted)
    if candidate_features:
        check_candidate_features(candidate_features, candidates, where="candidate_features")
        _name_unused(model, candidate_features)
    elif asked := [name for name in model.candidate_columns if name != PLACE]:
        note_once(f"note: the model uses {', '.join(asked)} of candidates: not known here, so that all count as the mean one")
    again = rule.rows(rows.items, rows.types, (clock - rows.times) / 1e6, model.vocabulary.types)
    request = AnswerRequest(
        history=rows, clock_us=clock, k=k, user_id=user, known=known, candidates=candidates, features=candidate_features, exclude=unwanted,
        seen=[model.vocabulary.items[i - 1] for i in again], user=features, explain=explain,
    )  # fmt: skip
    decision = decide(model, request, rng=np.random.default_rng(seed))
    if explain and any(item.later is UNSET and item.source != "fallback" for item in decision.items):
        log.warning("note: %s learns no values of items: there is nothing to explain", model.algorithm)
    return decision


def _text(given: Any) -> str:
    """An id as the log has it: whole numbers are written as text there.

    Raises:
        UserError: it is neither text nor a whole number.
    """
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        return str(given)
    if not isinstance(given, str):
        raise UserError("an id as text", f"{given!r:.60}", where="recommend", code=Code.BAD_IDS)
    return given


def _listed(given: Any) -> Any:
    """An array of numpy, or a Series of polars or pandas, as a list; anything else as it is."""
    convert = getattr(given, "tolist", getattr(given, "to_list", None))
    return given if convert is None else convert()


def exclusion(model: ModelParts, exclude: Sequence[str] = ()) -> tuple[list[str], SeenRule]:
    """The item ids of `exclude`, and which of a customer's own items are not shown again: the model's default if unsaid."""
    ids, rule = parse_exclude(exclude, model.vocabulary.types)
    return ids, rule or parse_exclude([model.answering.exclude], model.vocabulary.types)[1] or NOTHING_EXCLUDED


def titles_of(model: ModelParts) -> dict[str, str]:
    """Title of each item by id, where the model's histories or its dataset are there and have a column of titles."""
    try:
        past = histories_of(model)
    except UserError:  # another dataset stands in its place: there are no titles then
        return {}
    return {} if past is None else titles(past.items, model.answering.item_spec)


def _name_unknown(model: ModelParts, candidates: Sequence[str], exclude: Sequence[str]) -> None:
    for option, ids in (("candidates", candidates), ("exclude", exclude)):
        unknown = np.flatnonzero(model.vocabulary.item_index(list(ids)) == 0)
        if unknown.size:
            first, known = ids[unknown[0]], model.vocabulary.items
            rules = ["seen", "purchased", "none", *model.vocabulary.types] if option == "exclude" else []
            what = f"{unknown.size} of {len(ids)} ids are of no item the model knows" + (", and no rule" if rules else "")
            hint = nearest(first, [*rules, *known], NAMED_IDS)
            hint = f"rules: {', '.join(rules)}" if rules and hint.startswith("known") else hint
            log.warning("note: %s: %s, such as %r; %s", option, what, first, hint)


def _check_k(k: int) -> None:
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:  # text is the caller's mistake, not a fault of ours
        raise UserError("k of at least 1", repr(k), where="k", hint="ask for one item or more", code=Code.BAD_K)


def recommend_all(model: ModelParts, k: int, exclude: Sequence[str] = ()) -> Iterator[pl.DataFrame]:
    """The k best items of every user of the training log, in tables of 256 users: user_id, rank, item_id, score.

    All choose from the items that may be shown at the end of the log, without those that `exclude` names, by id or by rule.
    A customer for whom fewer are left has fewer rows.

    Raises:
        UserError: the dataset is gone, or k below 1.
    """
    _check_k(k)
    require_catalogue(model, "recommend")
    past = histories_of(model)
    if past is None:
        where = str(model.dataset or "model")
        raise UserError("the training dataset", _missing(model), where=where, hint="--all-users needs its histories", code=Code.NO_DATASET)
    catalogue = model.availability.open_items(past.log_end)
    if len(catalogue) == 0:
        expected, got, hint = "an item that may be shown", "an empty catalogue", "see qurate inspect"
        raise UserError(expected, got, where=str(model.dataset), hint=hint, code=Code.EMPTY_CATALOGUE)
    unwanted, rule = exclusion(model, exclude)
    _name_unknown(model, (), unwanted)
    catalogue = catalogue[~np.isin(catalogue, model.vocabulary.item_index(unwanted))]
    k = min(k, len(catalogue))
    names = np.array(["", *model.vocabulary.items], dtype=object)
    if model.lists is not None:
        yield from _shortlisted(model, past, k, unwanted, rule)
        return
    users = past.users["user_id"].to_list()
    for first in range(0, len(users), BATCH):
        chunk = range(first, min(first + BATCH, len(users)))
        whole = [past.rows(u) for u in chunk]
        rows = [past.rows(u, model.window) for u in chunk]
        clock = np.array([clock_for(model, r, past.log_end) for r in rows], np.int64)
        worth, ranking = model.values(observe(model, rows, clock, catalogue, past.user_features[chunk.start : chunk.stop]))
        scores = np.array(ranking)  # our own: worth may be the same array
        for row, (one, now) in enumerate(zip(whole, clock)):
            seen = rule.rows(one.items, one.types, (now - one.times) / 1e6, model.vocabulary.types)
            scores[row, np.isin(catalogue, seen)] = -np.inf
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable"), 1)
        yield pl.DataFrame(
            {
                "user_id": np.repeat(users[chunk.start : chunk.stop], k),
                "rank": np.tile(np.arange(1, k + 1), len(chunk)),
                "item_id": names[catalogue[best].reshape(-1)].tolist(),
                "score": np.take_along_axis(worth, best, 1).reshape(-1),
            }
        ).filter(pl.Series(np.take_along_axis(scores, best, 1).reshape(-1) > -np.inf))


def _shortlisted(model: ModelParts, past: Histories, k: int, unwanted: Sequence[str], rule: SeenRule) -> Iterator[pl.DataFrame]:
    """`recommend_all` where each customer chooses from a shortlist of their own."""
    users = past.users["user_id"].to_list()
    for first in range(0, len(users), BATCH):
        requests = []
        for number in range(first, min(first + BATCH, len(users))):
            rows = past.rows(number)
            again = rule.rows(rows.items, rows.types, (past.log_end - rows.times) / 1e6, model.vocabulary.types)
            seen = [model.vocabulary.items[i - 1] for i in again]
            own = past.features(number)
            requests.append(
                AnswerRequest(history=rows, clock_us=past.log_end, k=k, exclude=unwanted, seen=seen, user=own, user_id=users[number])
            )
        answers = decide_all(model, requests, 0.0, np.random.default_rng(0))
        rows_of = [(a.user_id, place, item.item_id, item.score) for a in answers for place, item in enumerate(a.items, 1)]
        schema = {"user_id": pl.String, "rank": pl.Int64, "item_id": pl.String, "score": pl.Float32}
        yield pl.DataFrame(rows_of, schema=schema, orient="row")
