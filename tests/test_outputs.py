"""Nothing of the user's is overwritten: a new path, or something that qurate wrote itself, or --force."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qurate.cli import app as cli
from qurate.errors import Code, MachineError, UserError
from qurate.outputs import DATASET, MODEL, WRITTEN, check_directory, check_files, written
from test_cli import one_error, run
from test_commands import write_log

Capture = pytest.CaptureFixture[str]

SIMULATED = ("events.csv", "decisions.csv", "items.csv", "users.csv", "trace.jsonl")


def contents(folder: Path) -> dict[str, str]:
    """Every file and folder below, hidden ones too, with the sha256 of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and a model, to read from."""
    folder = tmp_path_factory.mktemp("made")
    assert cli.main(["ingest", str(write_log(folder / "log.csv")), "-o", str(folder / "dataset"), "--quiet"]) == 0
    assert cli.main(["train", str(folder / "dataset"), "--algorithm", "popularity", "-o", str(folder / "model"), "--quiet"]) == 0
    return folder


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder of somebody's work, with the names that qurate itself uses."""
    folder = tmp_path / "work"
    for name in ("site", "site/log", "site/model", "site/dataset"):
        (folder / name).mkdir(parents=True)
    (folder / "site" / "manifest.json").write_text('{"name": "a web app", "icons": []}')
    (folder / "site" / "dataset.json").write_text('{"columns": ["a"]}')
    for name in ("site/log/events.csv", "thesis.txt", "report.html", "recommendations.csv", "speed.md", *SIMULATED):
        (folder / name).write_text("mine\n")
    return folder


def commands(made: Path, foreign: Path) -> dict[str, list[str]]:
    """Each command that writes, aimed at the foreign folder."""
    log, dataset, model = (str(made / name) for name in ("log.csv", "dataset", "model"))
    site = str(foreign / "site")
    return {
        "ingest": ["ingest", log, "-o", site],
        "ingest over a file": ["ingest", log, "-o", str(foreign / "thesis.txt")],
        "train": ["train", dataset, "--algorithm", "popularity", "-o", site],
        "train over a file": ["train", dataset, "-o", str(foreign / "thesis.txt")],
        "demo": ["demo", "-o", site],
        "demo beside a log": ["demo", "-o", str(foreign)],
        "simulate": ["simulate", "shop", "-o", str(foreign / "events.csv"), "--users", "2", "--steps", "2"],
        "simulate beside": ["simulate", "shop", "-o", str(foreign / "new" / ".." / "events.csv"), "--users", "2"],
        "trace": ["simulate", "shop", "-o", str(foreign / "events.parquet"), "--users", "2", "--trace", "1"],
        "recommend": ["recommend", model, "--all-users", "-o", str(foreign / "recommendations.csv")],
        "evaluate": ["evaluate", model, dataset, "--html", str(foreign / "report.html")],
        "bench": ["bench", "start", "--write", str(foreign / "speed.md")],
    }


@pytest.mark.parametrize("name", list(commands(Path(), Path())))
def test_no_command_changes_a_foreign_file(name: str, made: Path, foreign: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the work began")

    for place in ("qurate.training.train.train", "qurate.experiments.demo.run_jobs", "qurate.environments.log_writer._serve",
                  "qurate.experiments.evaluate.evaluate", "qurate.models.recommend.recommend_all", "qurate.bench.run.bench"):  # fmt: skip
        monkeypatch.setattr(place, too_late)
    before = contents(foreign)
    code, out, err = run(capsys, *commands(made, foreign)[name])
    assert code == 2 and out == ""
    assert "--force" in one_error(err) and str(foreign) in one_error(err)
    assert contents(foreign) == before


def test_every_command_with_an_output_has_force() -> None:
    names = {
        command.callback.__name__: set(command.callback.__annotations__) for command in cli.app.registered_commands if command.callback
    }
    writes = {name for name, options in names.items() if options & {"output", "write", "html"}}
    assert writes == {"demo", "simulate", "ingest", "train", "recommend", "evaluate", "bench", "play", "tune", "customers"}
    assert all("force" in names[name] for name in writes)


def test_what_qurate_wrote_is_replaced(made: Path, tmp_path: Path, capsys: Capture) -> None:
    log, dataset, model = (str(made / name) for name in ("log.csv", "dataset", "model"))
    twice = {
        "d": ["ingest", log, "-o"], "m": ["train", dataset, "--algorithm", "popularity", "-o"],
        "events.csv": ["simulate", "shop", "--users", "2", "--steps", "2", "--trace", "1", "-o"],
        "r.csv": ["recommend", model, "--all-users", "-o"], "e.html": ["evaluate", model, dataset, "--html"],
    }  # fmt: skip
    for name, command in twice.items():
        for _ in range(2):
            code, _, err = run(capsys, *command, str(tmp_path / name))
            assert code == 0, err
    assert "d" not in (tmp_path / WRITTEN).read_text().split()
    assert {line.split("  ")[1] for line in (tmp_path / WRITTEN).read_text().splitlines()} == {*SIMULATED, "r.csv", "e.html"}


def test_a_log_of_qurate_that_was_edited_belongs_to_who_edited_it(tmp_path: Path, capsys: Capture) -> None:
    command = ["simulate", "shop", "--users", "2", "--steps", "2", "-o", str(tmp_path / "events.csv")]
    assert run(capsys, *command)[0] == 0
    with (tmp_path / "items.csv").open("a") as file:
        file.write("another,row\n")
    before = contents(tmp_path)
    code, _, err = run(capsys, *command)
    assert code == 2 and "items.csv" in one_error(err) and contents(tmp_path) == before
    assert run(capsys, *command, "--force")[0] == 0
    assert "another,row" not in (tmp_path / "items.csv").read_text()


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_note_inside_a_model_or_dataset_is_kept(kind: str, made: Path, tmp_path: Path, capsys: Capture) -> None:
    place = tmp_path / kind
    command = ["ingest", str(made / "log.csv")] if kind == "dataset" else ["train", str(made / "dataset"), "--algorithm", "popularity"]
    assert run(capsys, *command, "-o", str(place))[0] == 0
    (place / "notes.txt").write_text("why I chose this")
    code, _, err = run(capsys, *command, "-o", str(place))
    assert code == 2 and "notes.txt" in one_error(err) and (place / "notes.txt").is_file()
    assert run(capsys, *command, "-o", str(place), "--force")[0] == 0
    assert not (place / "notes.txt").exists()


def test_a_dataset_is_no_place_for_a_model(made: Path, capsys: Capture) -> None:
    before = contents(made / "dataset")
    code, _, err = run(capsys, "train", str(made / "dataset"), "-o", str(made / "dataset"))
    assert code == 2 and "a model that qurate wrote" in one_error(err) and contents(made / "dataset") == before


def test_force_replaces_a_folder_but_never_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "mine.txt").write_text("mine")
    check_directory(tmp_path / "a", MODEL, force=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for place in (Path(".."), tmp_path / "a", tmp_path, Path.home()):
        if place.is_dir() and any(place.iterdir()):
            with pytest.raises(UserError, match="working directory") as refused:
                check_directory(place, DATASET, force=True)
            assert refused.value.code == Code.WOULD_OVERWRITE


@pytest.mark.parametrize("check", [lambda p: check_files([p]), lambda p: check_directory(p, MODEL)], ids=["file", "directory"])
def test_an_output_that_cannot_be_written_is_said_before_the_work(
    check: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="expected a folder, got a file"):
        check(tmp_path / "file" / "deep" / "model")

    def refuse(*_args: object, **_kwargs: object) -> str:
        raise PermissionError(13, "Permission denied")

    check(tmp_path / "new" / "model")
    assert os.listdir(tmp_path) == ["file"]
    monkeypatch.setattr("qurate.outputs.tempfile.mkdtemp", refuse)
    with pytest.raises(MachineError, match="Permission denied"):
        check(tmp_path / "new" / "model")


def test_the_list_is_what_sha256sum_reads(tmp_path: Path) -> None:
    for name in ("a.csv", "with blanks.csv"):
        (tmp_path / name).write_text(name)
    written([tmp_path / "a.csv"])
    written([tmp_path / "with blanks.csv"])
    (tmp_path / "a.csv").unlink()
    check_files([tmp_path / "with blanks.csv"])
    written([tmp_path / "with blanks.csv"])
    digest = hashlib.sha256(b"with blanks.csv").hexdigest()
    assert (tmp_path / WRITTEN).read_text() == f"{digest}  with blanks.csv\n"


def test_a_manifest_of_something_else_protects_its_folder(tmp_path: Path) -> None:
    for name, kind in (("manifest.json", MODEL), ("dataset.json", DATASET)):
        for text in ("[]", "{", "3", json.dumps({"format": 1, "files": {}}), "\xff"):
            folder = tmp_path / kind
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(text)
            with pytest.raises(UserError, match=r"something else \(" + name):
                check_directory(folder, kind)


def test_a_folder_of_several_outputs_is_refused_with_one_of_them_as_the_example(tmp_path: Path) -> None:
    """Not with the list of what qurate wrote there, which says nothing to people."""
    for name in ("recommendations.csv", "report.html"):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text(name)
        written([tmp_path / "out" / name])
    for check in (lambda: check_directory(tmp_path / "out", DATASET), lambda: check_directory(tmp_path / "out", MODEL)):
        with pytest.raises(UserError, match=r"something else \(recommendations\.csv\)"):
            check()
    assert sorted(contents(tmp_path / "out")) == [WRITTEN, "recommendations.csv", "report.html"]
    for name in ("recommendations.csv", "report.html"):
        (tmp_path / "out" / name).unlink()
    check_directory(tmp_path / "out", DATASET)  # the list alone is nobody's work


@pytest.mark.parametrize("case", ["the log", "the folder of the log", "the folder of the items", "the dataset", "the customers' dataset"])
def test_what_a_command_reads_is_not_replaced_by_its_result(case: str, made: Path, tmp_path: Path, capsys: Capture) -> None:
    for name in ("shop", "tables"):
        (tmp_path / name).mkdir()
    log, dataset = write_log(tmp_path / "shop" / "log.csv"), tmp_path / "dataset"
    (tmp_path / "tables" / "items.csv").write_text("item_id,price\ni1,3\n")
    shutil.copytree(made / "dataset", dataset)
    argv = {
        "the log": ["ingest", str(log), "-o", str(log)],
        "the folder of the log": ["ingest", str(log), "-o", str(log.parent)],
        "the folder of the items": ["ingest", str(log), "--items", str(tmp_path / "tables/items.csv"), "-o", str(tmp_path / "tables")],
        "the dataset": ["train", str(dataset), "--algorithm", "popularity", "-o", str(dataset)],
        "the customers' dataset": ["customers", str(dataset), "-o", str(dataset)],
    }[case]
    before = contents(tmp_path)
    assert cli.main([*argv, "--force"]) == 2
    assert "--force does not replace what is read" in one_error(capsys.readouterr().err)
    assert contents(tmp_path) == before
