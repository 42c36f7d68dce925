"""Two generations of a shop's model on the same held-out decisions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from mdp_logs import event, make_log

from qurate.cli import app as cli
from qurate.errors import UserError
from qurate.evaluation.evaluate import evaluate_ranking
from qurate.experiments.evaluate import log_discount
from qurate.experiments.generations import ScorerById, _asked, _numbers, evaluate_many
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import load
from qurate.training.train import train


def shop(out: Path, first: int, last: int) -> Dataset:
    """Customers who choose the first of the items `first` .. `last` most, and each later one less."""
    rows, rng = [], np.random.default_rng(first)
    for user in range(150):
        for step in range(10):
            item = first + int(rng.geometric(0.3) - 1) % (last - first)
            rows.append(event(f"u{user}", f"i{item:02d}", 1.7e9 + step * 40_000 + user, "purchase" if step % 3 == 0 else "click"))
    people = pl.DataFrame({"user_id": [f"u{i}" for i in range(150)], "region": ["north", "south"] * 75})
    return build_dataset(make_log(rows, users=people), episode="user", out=out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generations")
    shop(folder / "before", 0, 12)
    shop(folder / "now", 4, 16)
    for name, data in (("old", "before"), ("new", "now")):
        train(folder / data, algorithm="popularity").save(folder / name)
    train(folder / "now", algorithm="random").save(folder / "chance")
    train(folder / "before", steps=5, hidden=8, embedding_dim=4, window=4, batch_size=16).save(folder / "network")
    return folder


def test_models_of_one_catalogue_get_the_figures_of_evaluate(made: Path) -> None:
    data = Dataset.read(made / "now")
    result = evaluate_many([made / "new", "popularity"], data, exclude=["none"]).to_dict()
    new = load(made / "new")
    alone = evaluate_ranking("new", "dataset", data, {"score": [new]}, {}, "score", window=new.window, discount=log_discount([new], data))
    assert result["metrics"]["NDCG@20"] == alone["metrics"]["NDCG@20"] and result["n"] == alone["n"]
    assert result["by_type"] == alone["by_type"] and result["notes"] == []


def test_a_clear_winner_and_one_sentence(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(made / name) for name in ("chance", "new")]
    assert cli.main(["evaluate", *names, "random", str(made / "now"), "--exclude", "none", "--html", str(made / "page.html")]) == 0
    out = capsys.readouterr().out
    assert out.strip().splitlines()[-1].startswith(f"Use {made / 'new'}: ")
    assert "n = 135, all of type purchase" in out and "first choices" in out and "Use " in (made / "page.html").read_text()


def test_where_catalogues_differ_all_rank_what_all_know(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(made / name) for name in ("new", "old", "network")]
    assert cli.main(["evaluate", *names, str(made / "now"), "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["candidates"] == 8 and any("8 of 12 items" in note for note in result["notes"])
    assert any("goes on into the held-out time" in note and str(made / "old") in note for note in result["notes"])
    assert [one["name"] for one in result["contenders"]] == names and result["verdict"] in ("use", "insufficient")


def test_a_model_of_a_dataset_that_was_never_written_is_of_this_log() -> None:
    rows = [event(f"u{user}", f"i{(user + step) % 6}", 1.7e9 + step * 90_000 + user, "click") for user in range(20) for step in range(12)]
    data = build_dataset(make_log(rows), episode="user")
    assert data.sha256 == ""
    model = train(data, algorithm="popularity")
    assert evaluate_many([model, "random"], data).to_dict()["notes"] == []
    again = build_dataset(make_log(rows), episode="user")
    assert evaluate_many([model, "random"], again).to_dict()["notes"] == [], "the same log, ingested again"
    later = train(build_dataset(make_log([row | {"timestamp": row["timestamp"] + 86_400_000_000} for row in rows])), algorithm="popularity")
    assert len(evaluate_many([later, "random"], data).to_dict()["notes"]) == 1, "as many rows of each customer, at other times"


@pytest.mark.parametrize("into", [False, True])
def test_a_log_that_ends_before_the_held_out_time_is_no_other(into: bool, tmp_path: Path) -> None:
    """Also where customers come back after a long time, whose last event before it lies in that log."""
    items = [step % 4 // 3 * (1 + (user + step) % 5) for user in range(40) for step in range(20)]  # three times of four the same item
    rows = [event(f"u{i // 20}", f"i{item}", 1.7e9 + i % 20 * 90_000 + i // 20, "click") for i, item in enumerate(items)]
    whole = build_dataset(make_log(rows), episode="user")
    cut = whole.manifest["splits"]["cuts_us"][1] / 1e6
    assert np.any(whole.transitions.clock[whole.transitions.state[whole.transitions.split == 2]] / 1e6 < cut)
    before = [row for row in rows if row["timestamp"] / 1e6 < cut + (200 if into else 0)]
    old = train(build_dataset(make_log(before), episode="user"), algorithm="popularity")
    result = evaluate_many([old, "random"], whole).to_dict()
    assert any("goes on into the held-out time" in note for note in result["notes"]) == into
    assert result["best"] == "popularity 2" and result["verdict"] == ("insufficient" if into else "use"), result["sentence"]
    assert ("is ahead, but its log goes on into the held-out time" in result["sentence"]) == into


def test_a_model_of_another_catalogue_is_asked_by_id(made: Path) -> None:
    """A dataset with the items in another order gets the same scores for the same items."""
    data, model = Dataset.read(made / "before"), load(made / "network")
    items = _numbers(data.vocabulary.items[::-1], model.vocabulary.items)
    assert items.tolist() == [0, *range(len(data.vocabulary.items), 0, -1)]
    assert _numbers(["x", "i00"], model.vocabulary.items).tolist() == [0, 0, model.vocabulary.items.index("i00") + 1]
    own, view, window = _asked("network", model, items, data, 50)
    assert own is model and view is data and window == model.window
    other = replace(data, user_spec={})
    asked, view, _ = _asked("network", model, items, other, 50)
    assert isinstance(asked, ScorerById)
    np.testing.assert_allclose(view.user_features, data.user_features)


@pytest.mark.parametrize(
    ("names", "word"),
    [(["new"], "two or more"), (["new", "new"], "twice"), (["new", "popularty"], "popularity")],
)
def test_what_is_refused(names: list[str], word: str, made: Path) -> None:
    with pytest.raises(UserError, match=word):
        evaluate_many([made / n if n == "new" else n for n in names], made / "now")


def test_models_without_a_common_item_cannot_be_told_apart(made: Path, tmp_path: Path) -> None:
    shop(tmp_path / "d", 50, 60)
    train(tmp_path / "d", algorithm="popularity").save(tmp_path / "far")
    with pytest.raises(UserError, match="none among the 0 items that all know"):
        evaluate_many([made / "new", tmp_path / "far"], made / "now")


def test_several_models_in_a_world_are_for_compare(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(made / "new"), str(made / "old"), "--env", "shop"]) == 2
    assert "qurate compare" in capsys.readouterr().err
