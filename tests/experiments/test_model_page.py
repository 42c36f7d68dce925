"""The page of a trained model: what stands on it is what the model and its dataset say."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mdp_logs import event, make_log

from qurate.cli import app as cli
from qurate.experiments.evaluate import evaluate
from qurate.experiments.five_users import five_users
from qurate.experiments.model_page import LARGEST, _lift_words, _verdict, model_page
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.models.model import Model, load
from qurate.training.train import train

VOID = {"meta", "br", "link"}


class Tables(HTMLParser):
    """Rows of text of all tables, and whether every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and "tr" in self.open:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Dataset]:
    folder, rng, rows = tmp_path_factory.mktemp("page"), np.random.default_rng(0), []
    for user in range(40):
        for step in range(4 + user % 9):
            kind = "purchase" if step % 3 == 2 else "click"
            rows.append(event(f"u{user:02d}", f"i{int(rng.geometric(0.3)) % 9}", 1.7e9 + step * 40_000 + user, kind))
    items = pl.DataFrame(
        {"item_id": [f"i{i}" for i in range(9)], "title": [f"<b>{i}" for i in range(9)], "price": [i + 0.5 for i in range(9)]}
    )
    people = pl.DataFrame({"user_id": [f"u{i:02d}" for i in range(40)], "city": ["北京", "上海"] * 20})
    data = build_dataset(make_log(rows, items=items, users=people), "click=1,purchase=7", episode="user", out=folder / "d")
    model = train(data, steps=120, seed=1, gamma=0.8, hidden=8, embedding_dim=4, window=4, batch_size=16)
    model.save(folder / "m")
    return load(folder / "m"), data


def test_facts_rewards_features_and_curves(made: tuple[Model, Dataset]) -> None:
    model, data = made
    page = model_page(model, data, "m")
    rows = {row[0]: row[1:] for row in Tables(page).rows if row}
    counts = data.manifest["counts"]
    assert rows["size"] == [f"{counts['events']:,} events, 40 users, 9 items"]
    given = "hidden = 8, window = 4, embedding_dim = 4, gamma = 0.8, batch_size = 16"
    assert rows["settings other than the defaults"] == [given], "and not those that follow the kind of log"
    assert rows["training"][0].startswith("120 steps in ")
    purchases = int((data.arrays.type == data.vocabulary.types.index("purchase") + 1).sum())
    assert rows["purchase"] == [f"{purchases:,}", "7", "event"]
    assert rows["price"] == ["items", "numeric", "1"] and rows["city"] == ["users", "onehot", "2"]
    assert page.count("<figure>") == 3 and "<script" not in page and "&lt;b&gt;1" in page and "<b>1" not in page
    assert not re.search(r"(src|href)=", page)


@pytest.mark.parametrize(
    ("env", "algorithm", "given", "changed"),
    [
        ("toy_chain", "qr_dqn", {}, "none"),
        ("toy_chain", "qr_dqn", {"quantiles": 7, "hidden": 8}, "hidden = 8, quantiles = 7"),
        ("toy_chain", "q_learning", {}, "none"),
        ("interest_evolution,slate_size=2", "slateq", {"window": 4}, "window = 4"),
        ("CartPole-v1", "c51", {"v_min": 0, "v_max": 100}, "v_min = 0.0, v_max = 100.0"),
    ],
)
def test_an_algorithm_s_own_defaults_are_no_settings_of_the_run(env: str, algorithm: str, given: dict[str, Any], changed: str) -> None:
    page = model_page(train(env=env, algorithm=algorithm, steps=64, **given), None, "m")
    rows = {row[0]: row[1:] for row in Tables(page).rows if row}
    assert rows["settings other than the defaults"] == [changed]


def test_five_users_are_recommended_what_the_model_recommends(made: tuple[Model, Dataset]) -> None:
    model, data = made
    sections = five_users(model)
    users = [re.search(r"<bdi>(u\d\d)</bdi>", part)[1] for part in sections[1:]]  # type: ignore[index]
    assert len(users) == len(set(users)) == 5
    sizes = np.diff(data.arrays.user_start)[[data.user_ids.index(user) for user in users]]
    assert sizes.tolist() == sorted(sizes.tolist()) and sizes[0] < sizes[-1]
    rows = Tables(sections[3]).rows
    answer = model.recommend(users[2], 10)
    assert [row[0] for row in rows[1 : 1 + len(answer.items)]] == [item.item_id for item in answer.items]
    first = answer.items[0]
    assert rows[1][1:3] == [f"<b>{first.item_id[1:]}", f"{int(first.item_id[1:]) + 0.5:.2f}"] and rows[1][-1] == f"{first.score:,.3f}"
    number = data.user_ids.index(users[2])
    newest = int(data.arrays.item[data.arrays.user_start[number + 1] - 1])
    history = [row for row in rows if row[-1].startswith("2023-")]
    assert history[0][0] == data.vocabulary.items[newest - 1] and len(history) == min(8, sizes[2])


def test_a_model_without_histories_shows_no_user(made: tuple[Model, Dataset]) -> None:
    model, data = made
    private = replace(model, histories=None)
    page = model_page(private, data, "m")
    assert five_users(private) == [] and "u01" not in page and "no histories" in page


@pytest.mark.parametrize(
    ("mean", "ci", "words", "kind"),
    [
        (0.02, [0.01, 0.03], "better than the best baseline", "better"),
        (-0.02, [-0.03, -0.01], "The best baseline", "worse"),
        (0.02, [-0.01, 0.03], "cannot be told", ""),
    ],
)
def test_the_verdict_follows_the_interval(mean: float, ci: list[float], words: str, kind: str) -> None:
    said, of = _lift_words({"metric": "NDCG@20", "over": "popularity", "mean": mean, "ci": ci}, "NDCG@20")
    assert words in said and of == kind and f"{mean:+.4f}" in said


def test_a_large_dataset_is_left_to_evaluate(made: tuple[Model, Dataset]) -> None:
    model, data = made
    many = replace(data, transitions=replace(data.transitions, action=np.zeros(LARGEST + 1, np.int32)))
    assert "qurate evaluate m DATASET" in _verdict(model, many, "m")[0]


def test_train_writes_it_and_may_replace_it(tmp_path: Path, made: tuple[Model, Dataset], capsys: pytest.CaptureFixture[str]) -> None:
    args = ["train", str(made[1].path), "--algorithm", "popularity", "-o", str(tmp_path / "m")]
    for _ in range(2):
        assert cli.main(args) == 0 and f"report: {tmp_path / 'm' / 'report.html'}" in capsys.readouterr().out
    assert "fitted in one pass" in (tmp_path / "m" / "report.html").read_text() and load(tmp_path / "m").algorithm == "popularity"
    assert cli.main(["train", "--env", "toy_chain", "--steps", "64", "-o", str(tmp_path / "w")]) == 0
    assert "toy_chain" in (tmp_path / "w" / "report.html").read_text()


def test_the_report_of_evaluate_says_how_the_model_ranks_and_what_is_new(made: tuple[Model, Dataset]) -> None:
    model, data = made
    report = evaluate(model, data, exclude=["purchased"])
    page = report.html()
    rows = {row[0]: row for row in Tables(page).rows if row}
    assert f"The model recommends by <bdi>{model.by}</bdi>" in page and "Not shown again, and so not ranked: <bdi>purchased" in page
    assert rows["first choices"][1] == str(report.to_dict()["first_choices"]["n"]) and "<h2>Five users</h2>" in page
