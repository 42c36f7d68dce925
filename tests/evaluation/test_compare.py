import json
import math
from pathlib import Path
from typing import Any

import pytest

from qurate.errors import UserError
from qurate.evaluation.compare import Contender, collect, play, summarise

SEEDS = [0, 1, 2, 3, 4]


def run(world, contenders, seeds=SEEDS, **kw):
    return summarise("tiny", seeds, collect(contenders, play(contenders, lambda seed: world, seeds, customers=30)), **kw)


def fixed(always, position, name, role="baseline", steps=0):
    return Contender(name, lambda seed: always(position, name), role, steps)


def test_the_contract_s_shape_and_the_paired_lift(tiny_world, always) -> None:
    """Customers make 1, 2, 3 decisions: item i earns 2 i on average, and the lift has no noise although the means do."""
    world = tiny_world(noise=3.0)
    rows = [
        fixed(always, 3, "model", "candidate", 500),
        fixed(always, 0, "low"),
        fixed(always, 1, "mid"),
        fixed(always, 3, "oracle", "reference"),
    ]
    result = run(world, rows)
    assert {"env", "seeds", "customers", "policies", "best_baseline", "verdict"} <= set(result)
    assert (result["env"], result["seeds"], result["customers"], result["best_baseline"]) == ("tiny", SEEDS, 30, "mid")
    model = result["policies"][0]
    assert {"name", "mean", "ci", "length", "steps_trained", "lift", "lift_ci"} <= set(model)
    assert model["lift"] == pytest.approx(4.0)
    assert model["lift_ci"] == pytest.approx([4.0, 4.0], abs=1e-4)
    assert model["ci"][1] - model["ci"][0] > 0.1
    assert model["length"] == pytest.approx(6 / 4)
    assert model["steps_trained"] == 500
    assert model["components"]["value"] == pytest.approx(8.0)
    assert result["policies"][2]["lift"] == 0.0
    assert result["verdict"] == "better"
    assert "+4.00 per customer" in result["sentence"]
    json.dumps(result, allow_nan=False)


def test_a_reference_is_never_the_best_baseline_and_gives_the_headroom(tiny_world, always) -> None:
    rows = [
        fixed(always, 2, "model", "candidate"),
        fixed(always, 0, "low"),
        fixed(always, 1, "myopic_truth", "reference"),
        fixed(always, 3, "far_sighted", "reference"),
    ]
    result = run(tiny_world(), rows)
    assert result["best_baseline"] == "low"
    room = result["headroom"]
    assert (room["from"], room["to"]) == ("myopic_truth", "far_sighted")
    assert room["mean"] == pytest.approx(4.0)
    assert room["score"] == pytest.approx(0.5)  # the model earns half of what foresight adds


def test_verdicts(tiny_world, always) -> None:
    worse = run(tiny_world(), [fixed(always, 0, "model", "candidate"), fixed(always, 1, "base")])
    assert worse["verdict"] == "worse"
    same = run(tiny_world(noise=2.0), [fixed(always, 1, "model", "candidate"), fixed(always, 1, "base")])
    assert same["verdict"] == "not enough evidence"
    alone = run(tiny_world(), [fixed(always, 1, "base")])
    assert alone["verdict"] == "not enough evidence"
    assert alone["headroom"] is None


def test_one_seed_claims_nothing_and_few_seeds_say_so(tiny_world, always) -> None:
    rows = [fixed(always, 3, "model", "candidate"), fixed(always, 1, "base")]
    one = run(tiny_world(), rows, seeds=[7])
    assert one["verdict"] == "not enough evidence"
    assert one["policies"][0]["ci"] == [None, None]
    assert "Fewer than 5 seeds" in run(tiny_world(), rows, seeds=[1, 2])["sentence"]


def test_the_subject_is_named_not_picked_by_its_result(tiny_world, always) -> None:
    rows = [fixed(always, 0, "first", "candidate"), fixed(always, 3, "second", "candidate"), fixed(always, 1, "base")]
    assert run(tiny_world(), rows)["subject"] == "first"
    assert run(tiny_world(), rows, subject="second")["verdict"] == "better"
    with pytest.raises(UserError, match="one of: first, second, base"):
        run(tiny_world(), rows, subject="third")


def test_all_contenders_of_a_seed_meet_the_same_customers_and_policies_are_made_per_seed(tiny_world, always) -> None:
    world, made = tiny_world(), []

    def learner(seed):
        made.append(seed)
        return always(0, "learner")

    rows = [Contender("learner", learner, "candidate"), fixed(always, 1, "base")]
    list(play(rows, lambda seed: world, [3, 4], customers=5))
    assert made == [3, 4]
    assert world.resets[0] == world.resets[1] != world.resets[2] == world.resets[3]
    with pytest.raises(UserError, match="different names"):
        list(play([rows[1], rows[1]], lambda seed: world, [0]))


def test_discount_reaches_the_table(tiny_world, always) -> None:
    rows = [fixed(always, 0, "base")]
    runs = collect(rows, play(rows, lambda seed: tiny_world(), [0, 1], customers=3, gamma=0.5, tau=86_400.0))
    discounted = summarise("tiny", [0, 1], runs)["policies"][0]["discounted"]
    assert discounted == pytest.approx((1 + 1.5 + 1.5 + 0.5 * math.exp(-1)) / 3)


def test_the_myopic_row_has_the_settings_and_the_steps_of_the_model_it_is_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qurate.experiments.compare as judge
    from qurate.training.train import train

    given = {"hidden": 8, "embedding_dim": 4, "window": 3, "lr": 0.003, "n_step": 2}
    train(env="toy_chain", steps=512, **given).save(tmp_path / "model")
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(judge, "train", lambda **what: asked.append(what) or train(**what))
    result = judge.compare([tmp_path / "model", "myopic"], "toy_chain", seeds=2, customers=20)
    rows = {p["name"]: p for p in result["policies"]}
    assert rows["myopic"]["steps_trained"] == rows[str(tmp_path / "model")]["steps_trained"] == 512
    assert [what["seed"] for what in asked] == [0, 1]
    assert all(what["steps"] == 512 and what["gamma"] == 0 and given.items() <= what.items() for what in asked)
