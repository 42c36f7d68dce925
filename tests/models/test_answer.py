"""Answers: what each item is worth and why, what may be shown, whom the model knows, and agreement with evaluation."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from mdp_logs import event, make_log

from forked import Forked
from model_processes import ask_without_dataset
from qurate.decision import Decision, HistoryRows
from qurate.errors import UserError
from qurate.evaluation.ranking import observations, rank_all, ranking_targets, top_items
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models import answer
from qurate.models.answer import AnswerRequest, decide, decide_all
from qurate.models.histories import EMPTY_HISTORY, Histories
from qurate.models.model import Model, load
from qurate.models.recommend import histories_of, recommend_all
from qurate.training.train import train
from qurate.types import NEVER, Availability


def ids(decision: Decision) -> list[str]:
    return [item.item_id for item in decision.items]


def never(model: Model) -> Availability:
    """No item is ever available."""
    closed = np.full(len(model.vocabulary.items) + 1, NEVER)
    return Availability(closed, closed)


@pytest.fixture(scope="module")
def dataset(saved: Path) -> Dataset:
    return Dataset.read(saved.with_name("dataset"))


def test_now_and_later_and_their_components_add_up_to_the_score(model: Model) -> None:
    decision = model.ranked_by("q").recommend("u3", 5, explain=True)
    assert decision.degraded is None and len(decision.items) == 5
    for item in decision.items:
        assert isinstance(item.now, float) and isinstance(item.later, float) and isinstance(item.components, dict)
        assert item.now + item.later == pytest.approx(item.score, abs=1e-4)
        assert set(item.components) == {"click", "purchase"}
        assert sum(worth.now or 0 for worth in item.components.values()) == pytest.approx(item.now, abs=1e-5)
        assert sum(worth.later for worth in item.components.values()) == pytest.approx(item.later, abs=1e-5)
    assert any(abs(item.later) > 1e-3 for item in decision.items)
    assert [item.score for item in decision.items] == sorted((item.score for item in decision.items), reverse=True)
    assert not isinstance(model.recommend("u3", 1).items[0].now, float), "only where an explanation was asked for"


def test_the_classical_form_does_not_tell_now_from_later(saved: Path) -> None:
    single = train(saved.with_name("dataset"), steps=5, form="single", hidden=8, embedding_dim=4, window=4, batch_size=16)
    for item in single.recommend("u3", 3, explain=True).items:
        assert item.now is None and item.later == pytest.approx(item.score, abs=1e-4)
        assert isinstance(item.components, dict) and {worth.now for worth in item.components.values()} == {None}


def test_more_than_the_catalogue_is_the_catalogue(model: Model) -> None:
    decision = model.recommend("u3", 1_000, exclude=["none"])
    assert sorted(ids(decision)) == sorted(model.vocabulary.items) and decision.degraded is None
    assert all(item.propensity == 1 and item.source == "q" for item in decision.items)
    assert model.recommend("u3", 10**9, exclude=["none"]).items == decision.items, "and takes no more memory than that"
    for k in (0, "3"):
        with pytest.raises(UserError, match=f"k of at least 1, got {k!r}"):
            model.recommend("u3", k)  # type: ignore[arg-type]


def test_excluded_items_are_gone_and_the_others_stay_in_order(model: Model) -> None:
    everything = ids(model.recommend("u3", 15, exclude=["none"]))
    assert (
        ids(model.recommend("u3", 15, exclude=[everything[0], everything[4], "no such item", "none"])) == everything[1:4] + everything[5:]
    )
    nothing = model.recommend("u3", 15, exclude=everything)
    assert nothing.items == [] and nothing.degraded == "all_masked"


def test_candidates_are_all_there_is_to_choose_from(model: Model) -> None:
    everything = model.recommend("u3", 15)
    some = [everything.items[i].item_id for i in (7, 2, 11)]
    decision = model.recommend("u3", 10, candidates=[*some, some[0], "no such item"])
    assert ids(decision) == [everything.items[i].item_id for i in (2, 7, 11)]
    score = {item.item_id: item.score for item in everything.items}
    assert [item.score for item in decision.items] == pytest.approx([score[i] for i in ids(decision)], abs=1e-5)
    for empty in ([], ["no such item"]):
        decision = model.recommend("u3", 10, candidates=empty)
        assert decision.items == [] and decision.degraded == "no_candidates"


def test_one_text_is_not_taken_for_a_list_of_letters(model: Model) -> None:
    for ids_in_one in ({"exclude": "i01"}, {"candidates": "i01"}):
        with pytest.raises(UserError, match=r"a list of item ids, got 'i01', at (exclude|candidates); write .*=\['i01'\]"):
            model.recommend("u3", 3, **ids_in_one)  # type: ignore[arg-type]


def test_arguments_of_the_wrong_kind_are_refused(model: Model) -> None:
    assert model.recommend("u1", 3, exclude=None).items == model.recommend("u1", 3).items  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"a seed of 0 or more, below 2.*, got -1"):
        model.recommend("u1", seed=-1)
    with pytest.raises(UserError, match=r"an event as a dict, got 'i01', at history\[0\]"):
        model.recommend("u1", history=["i01"])  # type: ignore[list-item]


def test_ties_fall_the_same_way_again_and_by_the_seed(model: Model) -> None:
    even = model.with_answering(popularity=np.ones_like(model.popularity), supports_cold_start=False)
    answers = [tuple(ids(even.recommend("nobody", 3, seed=seed))) for seed in (0, 0, 1, 2, 3, 4)]
    assert answers[0] == answers[1] == tuple(ids(even.recommend("nobody", 3))) and len(set(answers)) == 5


def test_an_unknown_user_gets_what_is_popular_and_the_reason(model: Model) -> None:
    decision = model.recommend("nobody", 3)
    assert decision.degraded == "unknown_user" and decision.user_id == "nobody"
    best = np.argsort(-model.popularity[1:], kind="stable")[:3]
    assert [item.score for item in decision.items] == pytest.approx([float(model.popularity[1 + i]) for i in best])
    assert all(item.source == "fallback" for item in decision.items)
    assert model.recommend(None, 3).degraded == "unknown_user"
    empty = replace(model, availability=never(model))
    assert empty.recommend("u3", 3).degraded == "empty_catalogue"


def as_events(dataset: Dataset, user: int) -> list[dict[str, Any]]:
    """A user's rows as a request would give them."""
    rows = slice(dataset.arrays.user_start[user], dataset.arrays.user_start[user + 1])
    a, v = dataset.arrays, dataset.vocabulary
    return [
        {"item_id": v.items[i - 1], "type": v.types[t - 1], "timestamp": int(time), "value": float(value)}
        for i, t, time, value in zip(a.item[rows], a.type[rows], a.time[rows], a.value[rows])
    ]


def test_a_history_given_is_the_history_known(model: Model, dataset: Dataset) -> None:
    region = dataset.users.select("user_id", "region")
    for user in range(20):
        name, where = region.row(user)
        known, events = model.recommend(name, 15), as_events(dataset, user)
        given = model.recommend(None, 15, history=events, context={"region": where})
        assert ids(given) == ids(known) and given.degraded is None
        assert [i.score for i in given.items] == pytest.approx([i.score for i in known.items], abs=1e-5)
    texts = [e | {"timestamp": datetime.fromtimestamp(e["timestamp"] / 1e6, UTC).isoformat()} for e in events]
    naive = [e | {"timestamp": str(e["timestamp"]).replace("+00:00", "")} for e in texts]
    for same in (texts, naive):
        again = model.recommend(None, 15, history=same, context={"region": where})
        assert [i.score for i in again.items] == [i.score for i in given.items], "naive times are UTC, wherever the machine stands"


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([{"type": "clik", "item_id": "i00"}], "unknown_type"),
        ([{"item_id": "i00"}], "unknown_type"),
        ([{"type": "click", "timestamp": "yesterday"}], "bad_time"),
        ([{"type": "click", "timestamp": 10**30}], "bad_time"),
        ([{"type": "click", "timestamp": 2}, {"type": "click", "timestamp": 1}], "bad_history"),
        ([{"type": "click", "value": float("nan")}], "bad_value"),
        ([{"type": "click", "value": 1e300}], "bad_value"),
        ([{"type": "click", "value": "much"}], "bad_value"),
    ],
)
def test_a_history_that_cannot_be_read_is_refused(events: list[dict[str, Any]], code: str, model: Model) -> None:
    with pytest.raises(UserError) as caught:
        model.recommend(None, 3, history=events)
    assert caught.value.code == code


def test_context_is_the_customers_features_by_name(model: Model) -> None:
    north, south = (model.recommend(None, 15, context={"region": r}) for r in ("north", "south"))
    assert north.degraded is None and [i.score for i in north.items] != [i.score for i in south.items]
    with pytest.raises(UserError, match="did you mean region"):
        model.recommend(None, 3, context={"regoin": "north"})


ROWS = HistoryRows(np.array([1, 2]), np.array([1, 1]), np.array([0, 60_000_000]), np.zeros(2, np.float32))


def test_exploration_is_marked_and_its_probabilities_are_exact(model: Model) -> None:
    seen: dict[str, float] = {}
    sources: list[tuple[str, bool]] = []
    request = AnswerRequest(history=ROWS, clock_us=60_000_000, k=1)
    for i in range(800):
        item = decide(model, request, 0.3, np.random.default_rng(i)).items[0]
        seen[item.item_id] = item.propensity
        sources.append((item.source, item.propensity > 0.5))
    assert len(seen) == 15 and sum(seen.values()) == pytest.approx(1, abs=1e-12)
    assert set(sources) == {("q", True), ("explore", False), ("explore", True)}, "the best item may be drawn at random too"
    explored = np.mean([source == "explore" for source, _ in sources])
    assert abs(explored - 0.3) < 4 * (0.3 * 0.7 / 800) ** 0.5
    assert decide(model, request, 1.0).items[0].propensity == 1 / 15


def test_an_item_of_the_best_k_that_was_drawn_at_random_is_explore(model: Model) -> None:
    """All 3 candidates are among the 3 best; the first place says by its propensity how it was filled."""
    names = model.vocabulary.items[:3]
    request = AnswerRequest(history=ROWS, clock_us=60_000_000, k=3, candidates=names)
    for i in range(200):
        first = decide(model, request, 0.5, np.random.default_rng(i)).items[0]
        if first.propensity < 0.5:
            assert (first.source, first.propensity) == ("explore", pytest.approx(0.5 / 3))


def test_together_is_each_alone(model: Model) -> None:
    """Requests with their own k, candidates, exclusions and explanations get, in company, what they get alone."""
    names = model.vocabulary.items
    empty, clock = EMPTY_HISTORY, 60_000_000
    requests = [
        AnswerRequest(history=ROWS, clock_us=clock, k=3, user_id="a"),
        AnswerRequest(history=empty, clock_us=clock, k=2, user_id="b"),
        AnswerRequest(history=ROWS, clock_us=clock, k=20, user_id="c", exclude=[names[0], names[4], "nothing"]),
        AnswerRequest(history=ROWS, clock_us=clock, k=4, user_id="d", candidates=[names[3], "nothing", names[1], names[3], names[9]]),
        AnswerRequest(history=ROWS, clock_us=clock + 1, k=1, user_id="e", candidates=names, exclude=names[:13], explain=True),
        AnswerRequest(history=ROWS, clock_us=clock, k=1, candidates=[]),
        AnswerRequest(history=ROWS, clock_us=clock, k=1, exclude=names),
        AnswerRequest(history=empty, clock_us=clock, k=2, known=False, candidates=names[5:8]),
    ]
    together = decide_all(model, requests, 0.0, np.random.default_rng(0))
    assert [one.degraded for one in together] == [None, "unknown_user", None, None, None, "no_candidates", "all_masked", "unknown_user"]
    for request, company in zip(requests, together):
        alone = decide(model, request)
        assert (company.user_id, company.policy, company.degraded) == (request.user_id, alone.policy, alone.degraded)
        assert ids(company) == ids(alone)
        for one, other in zip(company.items, alone.items):
            assert (one.propensity, one.source) == (other.propensity, other.source) and one.score == pytest.approx(other.score, abs=1e-5)
            assert one.now == (other.now if other.now is msgspec.UNSET else pytest.approx(other.now, abs=1e-5))


def test_a_long_list_of_candidates_is_scored_like_a_short_one(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [AnswerRequest(history=ROWS, clock_us=60_000_000, k=5, candidates=model.vocabulary.items[:n]) for n in (7, 9, 12)]
    short = decide_all(model, requests, 0.0, np.random.default_rng(0))
    monkeypatch.setattr(answer, "LONG_LIST", 8)
    long = decide_all(model, requests, 0.0, np.random.default_rng(0))
    assert [ids(one) for one in long] == [ids(one) for one in short]


def test_everybody_at_once_is_one_after_the_other(model: Model, dataset: Dataset) -> None:
    table = pl.concat(list(recommend_all(model, 4)))
    assert table.height == 4 * len(dataset.user_ids)
    for user in dataset.user_ids[::7]:
        rows, decision = table.filter(pl.col("user_id") == user), model.recommend(user, 4)
        assert rows["item_id"].to_list() == ids(decision) and rows["rank"].to_list() == [1, 2, 3, 4]
        assert rows["score"].to_list() == pytest.approx([item.score for item in decision.items], abs=1e-5)
    assert pl.concat(list(recommend_all(model, 99, ["none"]))).height == 15 * len(dataset.user_ids)
    closed, alone = replace(model, availability=never(model)), without_histories(model).with_provenance(dataset=None)
    for broken, code in ((closed, "empty_catalogue"), (alone, "no_dataset")):
        with pytest.raises(UserError) as caught:
            next(recommend_all(broken, 4))
        assert caught.value.code == code


def without_histories(model: Model) -> Model:
    """As a model of an earlier version, or of `--no-histories`."""
    return replace(model, histories=None)


def test_histories_of_another_dataset_are_not_used(model: Model) -> None:
    assert model.with_provenance(dataset_sha256="0" * 64).recommend("u1").degraded is None  # it holds its own
    model = without_histories(model)
    with pytest.raises(UserError, match="another one"):
        histories_of(model.with_provenance(dataset_sha256="0" * 64))
    with pytest.raises(UserError, match="another one"):
        model.with_provenance(dataset_sha256="0" * 64).recommend("u1")
    assert histories_of(model.with_provenance(dataset="/no/such/place")) is None


def test_an_item_is_shown_from_its_declared_time_on(tmp_path: Path) -> None:
    end = 1.7e9 + 39 * 60
    rows = [event(f"u{i % 4}", "abc"[i % 3], 1.7e9 + 60 * i, "purchase" if i % 5 else "click") for i in range(40)]
    since = [datetime.fromtimestamp(t, UTC) for t in (1.7e9, end + 60, end + 120)]
    items = pl.DataFrame({"item_id": ["d", "soon", "later"], "available_from": since})
    data = build_dataset(make_log(rows, items=items), episode="user")
    train(data, steps=2, hidden=8, embedding_dim=4, window=4, batch_size=8).save(tmp_path / "m")
    model = replace(load(tmp_path / "m"), histories=Histories.of(data))
    assert set(ids(model.recommend("u1", 9))) == set("abcd")
    assert set(pl.concat(list(recommend_all(model, 9)))["item_id"]) == set("abcd")
    assert model.recommend("u1", 9, candidates=["later"]).degraded == "no_candidates"
    for seconds, more in ((-1e9, set()), (59, set()), (60, {"soon"}), (119, {"soon"}), (121, {"soon", "later"})):
        click = {"type": "click", "item_id": "a", "timestamp": round((end + seconds) * 1e6)}
        assert set(ids(model.recommend(None, 9, history=[click]))) == {*"abcd", *more}
    nothing = replace(model, availability=never(model))
    assert nothing.recommend("u1").degraded == "empty_catalogue"


def test_a_room_cannot_be_recommended_from_the_second_it_closes(tmp_path: Path) -> None:
    opens, closes = 1.7e9, 1.7e9 + 3600
    rows = [event(f"u{i % 4}", "abc"[i % 3], 1.7e9 + 60 * i, "purchase" if i % 5 else "click") for i in range(40)]
    times = {"available_from": [datetime.fromtimestamp(opens, UTC)], "available_until": [datetime.fromtimestamp(closes, UTC)]}
    data = build_dataset(make_log(rows, items=pl.DataFrame({"item_id": ["room"], **times})), episode="user")
    train(data, steps=2, hidden=8, embedding_dim=4, window=4, batch_size=8).save(tmp_path / "m")
    model = load(tmp_path / "m")
    for clock, there in ((closes - 1, True), (closes, False), (closes + 1e6, False)):
        click = {"type": "click", "item_id": "a", "timestamp": round(clock * 1e6)}
        assert set(ids(model.recommend(None, 9, history=[click]))) == {*"abc", *(["room"] if there else [])}
    assert model.recommend(None, 9, history=[click], candidates=["room"]).degraded == "no_candidates"


def test_a_model_trained_from_a_dataset_in_memory_knows_its_users(dataset: Dataset, saved: Path, tmp_path: Path) -> None:
    assert dataset.path == str(saved.with_name("dataset"))
    settings: dict[str, Any] = {"steps": 5, "hidden": 8, "embedding_dim": 4, "window": 4, "batch_size": 16}
    kept = train(saved.with_name("dataset"), **settings)
    for data in (dataset, replace(dataset, path=None)):
        trained = train(data, **settings)
        for user in ("u3", "u4"):
            decision = trained.recommend(user, 15)
            assert decision.degraded is None and decision.items == kept.recommend(user, 15).items
        assert trained.recommend("u3", 15).items != trained.recommend("u4", 15).items
        assert trained.recommend("nobody").degraded == "unknown_user"
        assert pl.concat(list(recommend_all(trained, 4))).equals(pl.concat(list(recommend_all(kept, 4))))
        trained.save(tmp_path / "m")
        again = train(data, resume=tmp_path / "m", steps=6)
        assert again.recommend("u3").degraded is None
        loaded = load(tmp_path / "m")
        assert loaded.recommend("u3", 15).items == trained.recommend("u3", 15).items
        train(data, histories=False, **settings).save(tmp_path / "m")
        bare = load(tmp_path / "m")
        if data.path is not None:
            assert bare.recommend("u3", 15).items == kept.recommend("u3", 15).items
        else:
            with pytest.raises(UserError, match="got one that was never written to a directory"):
                next(recommend_all(bare, 4))


def test_what_became_of_the_training_data_is_said_once(model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    moved = without_histories(model).with_provenance(dataset=str(tmp_path / "moved"))
    for user in ("u3", "u4"):
        assert moved.recommend(user, 3).degraded == "unknown_user"
    assert caplog.messages == [
        f"note: no user of the training log is known: expected the training dataset, got no such directory, at {tmp_path / 'moved'}"
    ]
    caplog.clear()
    assert moved.recommend(None, 3, history=[]).degraded == "unknown_user" and model.recommend("nobody", 3).degraded == "unknown_user"
    assert caplog.messages == []


def test_from_python_the_note_stands_on_stderr(saved: Path, tmp_path: Path) -> None:
    code, errors = Forked(tmp_path, ask_without_dataset, saved).wait()
    assert code == 0 and errors.startswith("note: no user of the training log is known") and errors.count("\n") == 1


def test_what_evaluation_ranks_first_is_what_is_recommended(model: Model, dataset: Dataset) -> None:
    """The top 10 of `evaluate` for 100 test decisions equals the top 10 of `recommend` for the same customers then."""
    t = dataset.transitions
    rows = ranking_targets(dataset)
    _, first = np.unique(t.user[t.state[rows]], return_index=True)
    rows = rows[first[:100]]
    assert len(rows) == 100
    ranked, _ = rank_all(dataset, rows, {"q": model}, 10, model.window)
    compared = 0
    for part, observation in observations(dataset, rows, model.window):
        tops = top_items(model.scores(observation), observation, 10)
        for place, top in zip(part, tops):
            state = int(t.state[rows[place]])
            user, history_end = int(t.user[state]), int(t.history_end[state])
            events = as_events(dataset, user)[: history_end - int(dataset.arrays.user_start[user])]
            context = {"region": dataset.users["region"][user]}
            decision = model.recommend(None, model.availability.n_ever, history=events, context=context, exclude=["none"])
            names = [model.vocabulary.items[i - 1] for i in top]
            assert ids(decision)[:10] == names
            target = model.vocabulary.items[t.action[rows[place]] - 1]
            assert ids(decision).index(target) == ranked["q"].ranks.better[place]
            assert ids(decision)[0] == model.vocabulary.items[ranked["q"].first[place] - 1]
            compared += 1
    assert compared == 100


def bought(dataset: Dataset, user: str, kinds: tuple[str, ...] = ("purchase",)) -> set[str]:
    events = as_events(dataset, dataset.user_ids.index(user))
    return {event["item_id"] for event in events if event["type"] in kinds}


def test_what_was_bought_is_not_shown_again_unless_asked_for(model: Model, dataset: Dataset) -> None:
    assert model.answering.exclude == "purchased" and model.answering.exclude_reason.endswith("repeat an earlier one")
    everything = set(model.vocabulary.items)
    table = pl.concat(list(recommend_all(model, 99)))
    for user in ("u3", "u4", "u11"):
        mine, seen = bought(dataset, user), bought(dataset, user, ("click", "purchase"))
        assert mine and mine < seen
        assert set(ids(model.recommend(user, 99))) == everything - mine == set(table.filter(pl.col("user_id") == user)["item_id"])
        assert set(ids(model.recommend(user, 99, exclude=["none"]))) == everything
        assert set(ids(model.recommend(user, 99, exclude=["seen"]))) == everything - seen
        assert set(ids(model.recommend(user, 99, exclude=["purchased:1s", "i00"]))) >= everything - mine - {"i00"}
        assert set(ids(model.recommend(user, 99, exclude=["i00"]))) == everything - mine - {"i00"}  # the default stays
        history = as_events(dataset, dataset.user_ids.index(user))
        assert set(ids(model.recommend(None, 99, history=history))) == everything - mine
    assert model.recommend("u3", candidates=sorted(bought(dataset, "u3"))).degraded == "all_masked"


def test_the_default_is_kept_with_the_model_and_older_ones_have_none(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    assert load(tmp_path / "m").answering.exclude == "purchased"


def test_ids_of_no_item_are_named(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    model.recommend("u3", 3, candidates=["i01", "i99"], exclude=["purchsed"])
    assert caplog.messages[0].startswith("note: candidates: 1 of 2 ids are of no item the model knows, such as 'i99'; ")
    assert caplog.messages[1].startswith("note: exclude: 1 of 1 ids are of no item") and "purchased" in caplog.messages[1]
    model.recommend("u3", 3, candidates=["i01", "nothing like them"])
    model.recommend("u3", 3, exclude=["nothing like them"])
    assert caplog.messages[3].endswith(f"; rules: seen, purchased, none, {', '.join(model.vocabulary.types)}")
    known = model.vocabulary.items
    assert caplog.messages[2].endswith(f"; known: {', '.join(sorted(known)[:5])} and {len(known) - 5} more")


def test_source_is_q_only_where_a_q_value_took_part(model: Model, dataset: Dataset) -> None:
    popular = train(dataset, algorithm="popularity")
    assert {item.source for item in popular.recommend("u3", 3).items} == {"rule"}
    by = {name: {item.source for item in model.ranked_by(name).recommend("u3", 3).items} for name in model.ranker.ranking_scores}
    assert by == {"q": {"q"}, "q_in_support": {"q"}, "behaviour": {"rule"}, "behaviour_times_q": {"q"}}
