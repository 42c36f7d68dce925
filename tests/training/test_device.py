"""`--device`: a GPU that is asked for and absent is told before any work; one that is there computes the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mdp_logs import event, make_log

from qurate.mdp.dataset import build_dataset
from qurate.models.model import Model
from qurate.training.train import train
from test_cli import one_error, run

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        event(f"u{u}", f"i{(u + s * s) % 9}", 1.7e9 + u * 7919 + s * 6_000, "purchase" if (u + s) % 4 == 0 else "click")
        for u in range(40)
        for s in range(15)
    ]
    path = tmp_path_factory.mktemp("log") / "dataset"
    build_dataset(make_log(rows), out=path)
    return path


@pytest.mark.parametrize("source", ["DATASET", "--env toy_chain", "--env CartPole-v1"])
def test_an_absent_gpu_is_told_before_any_work(
    source: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = run(
        capsys, "train", *source.replace("DATASET", str(dataset)).split(), "-o", str(tmp_path / "m"), "--device", "cuda", "--quiet"
    )
    assert code == 2 and out == "" and "expected a CUDA GPU" in one_error(err) and "--device cpu" in err
    assert list(tmp_path.iterdir()) == []


def test_commands_that_compute_on_the_cpu_do_not_take_cuda_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("simulate", "toy_chain", "-o", str(tmp_path / "log.csv"), "--users", "3", "--steps", "2", "--device", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = run(capsys, *command)
    assert code == 2 and out == "" and "expected a CUDA GPU" in one_error(err) and list(tmp_path.iterdir()) == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    code, out, err = run(capsys, *command)
    assert code == 0 and "note: --device is for train; simulate computes on the CPU" in err and (tmp_path / "log.csv").is_file()


def assert_near(one: Model, two: Model) -> None:
    for key, value in one.ranker.module.state_dict().items():  # type: ignore[union-attr]
        other = two.ranker.module.state_dict()[key]  # type: ignore[union-attr]
        assert other.device.type == "cpu" and torch.allclose(value, other, atol=1e-3), key


@gpu
@pytest.mark.parametrize("env", ["toy_chain", "shop", "CartPole-v1"])
def test_an_environment_is_learned_alike_on_a_gpu(env: str) -> None:
    """The first updates, without the noise that each device draws itself: later ones drift apart as rounding differs."""
    still: dict[str, Any] = {} if env == "CartPole-v1" else {"id_dropout": 0.0}
    assert_near(*(train(env=env, steps=1_088, seed=1, warm_up=1_000, device=device, **still) for device in ("cpu", "cuda")))


@gpu
def test_a_log_is_learned_alike_on_a_gpu(dataset: Path) -> None:
    assert_near(*(train(dataset, steps=10, hidden=16, id_dropout=0.0, negatives=0, device=device) for device in ("cpu", "cuda")))
