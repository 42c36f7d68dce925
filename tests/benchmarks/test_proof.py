"""The cache of `make proof`: a part that was kept is read back whole, and is not run again."""

from pathlib import Path

import numpy as np
import proof
import pytest

from qurate.baselines.registry import random_policy
from qurate.environments.registry import make_engine
from qurate.evaluation.rollouts import rollout
from qurate.experiments.demo import SeedResult, Size
from qurate.experiments.jobs import Job

TINY = Size(1, 1, 1, 1, 1, 1)


def one_result(seed: int) -> SeedResult:
    engine = make_engine("toy_chain")
    return SeedResult({"random": rollout(engine, random_policy(), seed, 5)}, {"dqn_online": [(0.0, 1.5)]}, {"dqn_online": 40})


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    job = Job(one_result, (3,), stages=0)
    result = proof.run_and_keep(*job, tmp_path / "part.npz")
    again = proof.kept(tmp_path / "part.npz")
    assert again.curves == result.curves and again.steps == result.steps
    assert set(again.rollouts) == {"random"}
    for name in proof.ARRAYS:
        np.testing.assert_array_equal(getattr(again.rollouts["random"], name), getattr(result.rollouts["random"], name))


def test_parts_in_the_cache_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Path] = []

    def run_jobs(jobs: list[Job], progress: object) -> None:
        for job in jobs:
            assert job.function is proof.run_and_keep
            place = job.arguments[-1]
            ran.append(place)
            proof.keep(one_result(len(ran)), place)

    monkeypatch.setattr(proof, "run_jobs", run_jobs)
    assert len(proof.run(tmp_path, [0, 1], TINY)) == 5 and len(ran) == 5
    ran[2].unlink()
    results = proof.run(tmp_path, [0, 1], TINY)
    assert len(results) == 5 and len(ran) == 6 and ran[5] == ran[2]
