import json
from html.parser import HTMLParser

import pytest

from qurate.errors import UserError
from qurate.evaluation.charts import Bar, dots
from qurate.evaluation.compare import Contender, collect, play, summarise
from qurate.evaluation.evaluate import evaluate_world
from qurate.evaluation.intervals import Interval
from qurate.evaluation.page import clean, escape, figure, span
from qurate.evaluation.report import Report

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&\u202e\ud800\x00"
SEEDS = [0, 1, 2]


class Page(HTMLParser):
    """Collects what a page contains."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data) -> None:
        self.text += data


@pytest.fixture
def comparison(tiny_world, always) -> Report:
    world = tiny_world(noise=2.0, ids=[EVIL, "item2", "item3", "item4"])
    contenders = [
        Contender(EVIL, lambda seed: always(0), "candidate", 1_234),
        Contender("static", lambda seed: always(1)),
        Contender("near", lambda seed: always(2), "reference"),
        Contender("far", lambda seed: always(3), "reference"),
    ]
    runs = collect(contenders, play(contenders, lambda seed: world, SEEDS, customers=30))
    curves = {EVIL: {seed: [(0, 0.0), (100, 1.0 + seed), (200, float("nan"))] for seed in SEEDS}}
    return Report(summarise(EVIL, SEEDS, runs), EVIL, [EVIL], curves, runs)


def assert_self_contained(text: str) -> Page:
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "embed", "base", "form", "a", "image", "use"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"src", "href", "xlink:href", "srcdoc", "action"})
    assert not [v for n, v in page.attributes if "://" in v and not n.startswith("xmlns")]
    assert "@import" not in text
    assert "url(" not in text
    return page


def test_the_page_is_self_contained_and_ids_cannot_inject(comparison) -> None:
    page = assert_self_contained(comparison.html())
    assert "<script>alert" in page.text  # shown as text
    assert "default-src 'none'" in dict(page.attributes)["content"]
    assert page.tags.count("svg") >= 4


def test_the_page_says_what_the_numbers_say(comparison) -> None:
    text = comparison.html()
    result = comparison.to_dict()
    for policy in result["policies"]:
        assert figure(policy["mean"]) in text
        assert span(policy["ci"]) in text
    assert escape(result["sentence"]) in text
    assert "same 30 simulated customers" in text
    assert "best baseline" in text
    assert "1,234" in text
    for heading in ("What one customer brought", "While they learned", "What customers did", "Notes"):
        assert f"<h2>{heading}</h2>" in text
    assert "prefers-color-scheme:dark" in text
    json.dumps(result, allow_nan=False)


def test_saved_file_is_utf8_whole_or_not_there(comparison, tmp_path) -> None:
    path = tmp_path / "report.html"
    comparison.save_html(path)
    text = path.read_bytes().decode("utf-8")
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    assert len(text) < 400_000
    assert {p.name for p in tmp_path.iterdir()} == {"report.html", ".qurate-written"}
    comparison.save_html(path)  # its own page is replaced
    path.write_text("mine")
    with pytest.raises(UserError, match="was edited since"):
        comparison.save_html(path)
    assert path.read_text() == "mine"
    with pytest.raises(UserError, match="expected a folder, got a file"):
        comparison.save_html(path / "report.html")


def test_one_seed_without_baselines_still_makes_a_page(tiny_world, always) -> None:
    rows = [Contender("alone", lambda seed: always(0), "candidate")]
    runs = collect(rows, play(rows, lambda seed: tiny_world(), [0], customers=3))
    text = Report(summarise("tiny", [0], runs), runs=runs).html()
    assert_self_contained(text)
    assert "nan" not in text.lower()
    assert "nothing is claimed" in text


def test_evaluation_in_a_world(tiny_world, always) -> None:
    rows = [Contender("model", lambda seed: always(3), "candidate"), Contender("static", lambda seed: always(0))]
    runs = collect(rows, play(rows, lambda seed: tiny_world(noise=1.0), SEEDS, customers=30))
    result = evaluate_world("tiny", runs, "model", 0.9)
    assert {"model", "on", "n", "metrics", "by_type", "by_score", "baselines"} <= set(result)
    assert result["n"] == 90
    assert result["by_type"]["value"]["total"]["mean"] == pytest.approx(8.0)
    assert result["metrics"]["return"]["mean"] == pytest.approx(summarise("tiny", SEEDS, runs)["policies"][0]["mean"])
    assert result["baselines"]["static"]["decisions"]["mean"] == 2.0
    json.dumps(result, allow_nan=False)
    page = assert_self_contained(Report(result).html())
    assert "model on tiny" in page.text
    with pytest.raises(UserError, match="a policy of the comparison, got nobody"):
        evaluate_world("tiny", runs, "nobody", 0.9)


def test_ranking_report_names_its_score_and_what_it_may_claim() -> None:
    entry = {
        "HR@20": {"mean": 0.5, "ci": [0.4, 0.6]},
        "NDCG@20": {"mean": 0.25, "ci": [0.2, 0.3]},
        "coverage@20": {"mean": 0.1, "ci": [None, None]},
    }
    result = {
        "model": EVIL,
        "on": "log",
        "n": 1_000,
        "metrics": entry,
        "by_type": {"purchase": {"n": 12, **entry}},
        "by_score": {"q": {**entry, "first_choice_as_behaviour": 0.37}, "behaviour": {**entry, "first_choice_as_behaviour": 1.0}},
        "baselines": {"popularity": {**entry, "NDCG@20": {"mean": None, "ci": [None, None]}}},
        "caption": "agreement with what was chosen, not value",
        "k": 20,
        "users": 10,
        "seeds": 3,
        "missed": 0.25,
        "open": {"n": 750, **entry},
        "candidates": 50.0,
        "lift": {"metric": "NDCG@20", "over": "popularity", "mean": 0.0123, "ci": [-0.01, 0.03]},
    }
    page = assert_self_contained(Report(result).html())
    assert "not value" in page.text
    assert "q 37 %" in page.text
    assert "25.0 % of the decisions" in page.text
    assert "+0.0123 (-0.0100 to +0.0300)" in page.text


def test_cells() -> None:
    assert figure(1234.5) == "1,234.50"
    assert figure(None) == figure(float("nan")) == span([None, 1.0]) == span(None) == "–"
    assert span([1.0, 2.0], 1, True) == "+1.0 to +2.0"
    assert clean("a\x00b\ud800") == "a\ufffdb\ufffd"
    assert len(clean("x" * 1_000)) == 120
    assert "&lt;b&gt;" in dots(
        [Bar("<b>", Interval(1.0, 0.5, 1.5), "g"), Bar("none", Interval(float("nan"), 0, 0), "g")], "x", {"g": "#0a0a01"}
    )
