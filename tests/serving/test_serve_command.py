"""`qurate serve` as a command: what it says of itself, and where."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qurate.cli import app as cli
from qurate.events.readers import read_events
from qurate.mdp.dataset import build_dataset
from qurate.serving.api import server
from qurate.serving.service import Service
from qurate.training.train import train


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Stdout and stderr of the command, without a socket."""
    lines = [f"u{user},i{1 + (user + step) % 5},click,{1_700_000_000 + 60 * step}" for user in range(8) for step in range(6)]
    (tmp_path / "log.csv").write_text("user_id,item_id,type,timestamp\n" + "\n".join(lines) + "\n")
    model = train(build_dataset(read_events(tmp_path / "log.csv")), algorithm="popularity").save(tmp_path / "model")

    def no_socket(make: Callable[[], Service], host: str, port: int, ready: Callable[[str], None]) -> None:
        make().close()
        ready("http://127.0.0.1:4711")

    monkeypatch.setattr(server, "run", no_socket)

    def call(*options: str) -> tuple[str, str]:
        capsys.readouterr()
        assert cli.main(["serve", str(tmp_path / "model"), "--data", str(tmp_path / "data"), *options]) == 0
        out, err = capsys.readouterr()
        return out.replace(model.version, "VERSION"), err.replace(model.version, "VERSION")

    return call


def test_it_says_its_address_and_what_is_not_shown_again(said: Callable[..., tuple[str, str]]) -> None:
    out, err = said("--exclude", "purchase:30d")
    assert out == ""
    assert err.splitlines() == [
        "note: not shown again: purchase:30d; --exclude seen|purchased|none says otherwise",
        "serving VERSION at http://127.0.0.1:4711",
    ]


def test_quiet_leaves_the_address_alone(said: Callable[..., tuple[str, str]]) -> None:
    assert said("--quiet") == ("", "serving VERSION at http://127.0.0.1:4711\n")


def test_json_is_one_object_once_it_is_ready(said: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    out, _ = said("--json", "--explore", "5%", "--exclude", "none")
    assert json.loads(out) == {
        "url": "http://127.0.0.1:4711",
        "model_version": "VERSION",
        "data": str(tmp_path / "data"),
        "explore": 0.05,
        "exclude": "none",
    }
