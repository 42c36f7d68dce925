"""`play` and `evaluate` of a user's own task: what it draws, returns, prints, and that it ends."""

import json
from pathlib import Path

import pytest

from qurate.cli import app as cli
from qurate.errors import Code, UserError
from qurate.experiments import evaluate as evaluation
from qurate.experiments import play as playing
from qurate.experiments.evaluate import evaluate
from qurate.experiments.play import play
from qurate.models.model import Model
from qurate.training.train import train


@pytest.fixture(scope="module")
def model() -> Model:
    return train(env="drawing_tasks:Drawing", steps=16, hidden=4, batch_size=4)


def test_an_episode_is_a_gif(model: Model, tmp_path: Path) -> None:
    for name in ("Drawing", "OddRate"):  # a rate that is no number is the usual one
        result = play(model, f"drawing_tasks:{name}", tmp_path / f"{name}.gif", episodes=2)
        assert result["decisions"] == result["pictures"] and len(result["returns"]) == 2
        assert (tmp_path / f"{name}.gif").read_bytes().startswith(b"GIF89a")


@pytest.mark.parametrize(
    "name,text",
    [
        ("gives_text", "a factory that returns a gymnasium.Env, got str"),
        ("NothingDrawn", r"pictures uint8 \[H, W, 3\] from render, got uint8 \[0, 6, 3\]"),
        ("Leaving", "an environment that draws pictures, got SystemExit: 4"),
    ],
)
def test_what_draws_nothing_is_one_line(name: str, text: str, model: Model, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=text) as caught:
        play(model, f"drawing_tasks:{name}", tmp_path / "out.gif")
    assert caught.value.code is Code.BAD_ENV and not list(tmp_path.iterdir())


def test_an_episode_that_never_ends_is_left_and_that_is_said(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(playing, "MOST_DECISIONS", 30)
    monkeypatch.setattr(evaluation, "TASK_DECISIONS", 40)
    monkeypatch.setattr(evaluation, "TASK_EPISODES", 3)
    assert play(model, "drawing_tasks:Endless", tmp_path / "out.gif")["decisions"] == 30
    assert "drawing_tasks:Endless declares no limit: an episode was left after 30 decisions" in caplog.text
    assert evaluate(model, env="drawing_tasks:Endless", seeds=1).to_dict()["metrics"]["decisions"]["mean"] == 40
    assert "6 of 6 episodes of drawing_tasks:Endless lasted 40 decisions, the most that are played where a task" in caplog.text
    caplog.clear()
    evaluate(model, env="drawing_tasks:Drawing", seeds=1)
    assert not caplog.text


def test_what_a_task_prints_does_not_stand_in_the_result(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = str(tmp_path / "model")
    model.save(saved)
    commands = (
        ["train", "--env", "drawing_tasks:Talking", "-o", str(tmp_path / "other"), "--steps", "8"],
        ["evaluate", saved, "--env", "drawing_tasks:Talking", "--seeds", "1"],
        ["play", saved, "--env", "drawing_tasks:Talking", "-o", str(tmp_path / "out.gif")],
    )
    for quiet in ([], ["--quiet"]):
        for command in commands:
            assert cli.main([*command, "--json", *quiet]) == 0
            out, err = capsys.readouterr()
            assert json.loads(out) and "hello from the task" in err, command
