"""Fifty honest mistakes of the first hour: the exit code, and the one line that says what to do."""

from pathlib import Path

import pytest

from qurate.cli import app as cli
from test_cli import one_error

HEADER = "user_id,item_id,type,timestamp\n"


def _rows(count: int = 240) -> list[str]:
    return [f"u{i % 20},i{(i * i + i // 20) % 9},{'purchase' if i % 4 == 3 else 'click'},{1_700_000_000 + i * 3_600}" for i in range(count)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, its tables, a dataset, a model, and files that are none of them."""
    top = tmp_path_factory.mktemp("mistakes")
    (top / "log.csv").write_text(HEADER + "\n".join(_rows()) + "\n")
    side = top / "side"
    side.mkdir()
    (side / "goods.csv").write_text("item_id,title,price\n" + "".join(f"i{i},t{i},{i}.5\n" for i in range(9)))
    (side / "twice.csv").write_text("item_id,price\ni1,2\ni1,3\n")
    (side / "no_id.csv").write_text("thing,price\na,1\nb,2\n")
    (side / "ends.csv").write_text("item_id,available_from,available_until\ni1,2024-02-01,2024-01-01\n")
    (top / "empty.csv").touch()
    (top / "header.csv").write_text(HEADER)
    (top / "log.xlsx").write_bytes(b"PK")
    (top / "gbk.csv").write_bytes(
        (HEADER + "".join(f"用户{i % 9},商品{i % 5},click,{1_700_000_000 + i}\n" for i in range(60))).encode("gbk")
    )
    (top / "years.csv").write_text(HEADER + "\n".join(f"u{i % 5},i{i % 7},click,{i % 12}" for i in range(60)) + "\n")
    (top / "one_item.csv").write_text(HEADER + "\n".join(f"u{i % 5},i1,click,{1_700_000_000 + i * 60}" for i in range(60)) + "\n")
    (top / "bad.csv").write_text(HEADER + "\n".join([*_rows(80), *["u1,i1,click,soon"] * 20]) + "\n")
    (top / "letters.txt").write_text("dear shop,\nplease send the log\n")
    (top / "folder").mkdir()
    (top / "mine").mkdir()
    (top / "mine" / "thesis.txt").write_text("years of work")
    assert cli.main(["ingest", str(top / "log.csv"), "--items", str(side / "goods.csv"), "-o", str(top / "data"), "--quiet"]) == 0
    small = [part for leaf in ("hidden=8", "embedding_dim=4", "window=4", "batch_size=16") for part in ("--set", leaf)]
    assert cli.main(["train", str(top / "data"), "-o", str(top / "model"), "--steps", "5", "--quiet", *small]) == 0
    assert cli.main(["train", str(top / "data"), "-o", str(top / "popular"), "--algorithm", "popularity", "--quiet"]) == 0
    return top


MISTAKES: list[tuple[str, str, str]] = [
    # what was typed (paths are in the folder above), what is expected, what to do about it
    ("ingest lgo.csv -o d", "an existing file or directory", "check the path"),
    ("ingest empty.csv -o d", "a file with rows", "check how it was written"),
    ("ingest header.csv -o d", "", "header.csv"),
    ("ingest log.xlsx -o d", "a file ending in", "save its sheet as CSV"),
    ("ingest folder -o d", "files ending in", "give the log file itself"),
    ("ingest letters.txt -o d", "", "letters.txt"),
    ("ingest log.csv", "--output", "-o DIR"),
    ("ingest log.csv -o mine", "a new path or a dataset that qurate wrote", "--force"),
    ("ingest log.csv -o log.csv", "a new path or a dataset that qurate wrote", "--force"),
    ("ingest gbk.csv -o d", "at most 1.00% bad rows", "if it is gbk, say --encoding gbk"),
    ("ingest years.csv -o d", "times since 1970", "say --order timestamp if it is only an order"),
    ("ingest one_item.csv -o d", "at least two items", "nothing to choose"),
    ("ingest bad.csv -o d", "", "--max-bad"),
    ("ingest log.csv -o d --max-bad 5", "a share between 0 and 1", "1% or 0.01"),
    ("ingest log.csv -o d --map user_id=usr", "a column", "user_id"),
    ("ingest log.csv -o d --map user=user_id", "", "did you mean user_id?"),
    ("ingest log.csv -o d --rewards purchase:10", "TYPE=WEIGHT", "click=1,purchase=10"),
    ("ingest log.csv -o d --rewards purchse=10", "an event type of the log", "did you mean purchase?"),
    ("ingest log.csv -o d --rewards click=0,purchase=0", "a weight other than 0", "give the event that you want a weight"),
    ("ingest log.csv -o d --churn-after 30", "a duration such as 30d", "add a unit"),
    ("ingest log.csv -o d --layout movielens1m", "", "movielens"),
    ("ingest log.csv -o d --items side/no_id.csv", "a column item_id", "--map no_id.csv:item_id="),
    ("ingest log.csv -o d --items side/twice.csv", "one row per item_id", "keep one of them"),
    ("ingest log.csv -o d --items side/ends.csv", "available_until at or after available_from", "leave it empty"),
    ("ingest log.csv -o d --items side/goods.csv --title-column titel", "a column of the table of items", "did you mean title?"),
    ("ingest log.csv -o d --itms side/goods.csv", "a known option", "did you mean --items?"),
    ("injest log.csv -o d", "a command", "did you mean ingest?"),
    ("validate bad.csv nothing.csv", "an existing file or directory", "check the path"),
    ("inspect log.csv", "a dataset", "log.csv"),
    ("simulate live --policy model -o l.csv", "a model for this environment's items and customers", "at model; train one with --env"),
    ("evaluate model --env shop", "a model for this environment's items and customers", "at model; train one with --env"),
    ("train log.csv -o m", "a dataset", "log.csv"),
    ("train data", "-o MODEL", "say where the model goes"),
    ("train data -o m --algorithm dqnn", "a known algorithm", "did you mean dqn?"),
    ("train data -o m --set gama=0.9", "a known setting", "did you mean gamma?"),
    ("train data -o m --set gamma=1.5", "gamma", "discount"),
    ("train data -o m --budget 10", "a duration", "add a unit"),
    ("train data -o m --rewards like=1", "a reward component of the dataset", "others: `qurate ingest --rewards`"),
    ("train data -o m --algorithm popularity --steps 5", "no --steps", "leave the option out"),
    ("train data -o m --set lr=1e20 --set hidden=8 --steps 40", "a training run that converges", "smaller lr"),
    ("train data -o m --from model --set hidden=64", "the network of the model, hidden=8", "leave it out"),
    ("train data -o mine", "a new path or a model that qurate wrote", "--force"),
    ("evaluate model", "DATASET or --env ID", "give one of them"),
    ("evaluate model log.csv", "a dataset", "log.csv"),
    ("evaluate model data --exclude sen", "seen, purchased, none or event types", "did you mean seen?"),
    ("recommend model", "--user ID, or --all-users with -o FILE", "choose one"),
    ("recommend model --user u1 -k 0", "", "-k"),
    ("recommend model --all-users -o all.xls", "a file name ending in .csv, .jsonl, .parquet", ".xls"),
    ("recommend data --user u1", "a model directory, got a dataset", "train one"),
    ("evaluate data model", "a model directory, got a dataset", "at data"),
    ("train model -o m", "a dataset directory, got a model", "ingest"),
    ("ingest log.csv -o log.csv --force", "another place for a dataset, got the place of the input", "choose another name"),
    ("train data -o data --force", "another place for a model, got the place of the input", "choose another name"),
    ("serve data", "a model directory", "train one"),
    ("serve model --explore 20", "a share between 0 and 1", "1% or 0.01"),
    ("serve model --port 99999", "", "--port"),
]


@pytest.mark.parametrize(("typed", "expected", "hint"), MISTAKES, ids=[typed for typed, _, _ in MISTAKES])
def test_one_line_and_the_exit_code(
    typed: str, expected: str, hint: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert cli.main(typed.split()) == 2
    out, err = capsys.readouterr()
    line = one_error(err)
    assert out == "" and f"expected {expected}" in line and hint in line, line
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
