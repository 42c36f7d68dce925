import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qurate.errors import UserError
from qurate.evaluation.compare import Contender, collect, play, summarise
from qurate.evaluation.evaluate import evaluate_world
from qurate.evaluation.rollouts import customers_seed

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
    for places, name in (((3, 0, 1, 2, 0), "mostly_more"), ((0, 1, 0, 3, 0), "mostly_less")):
        unsure = Contender(name, lambda seed, places=places, name=name: always(places[seed], name), "candidate")
        result = run(tiny_world(), [unsure, fixed(always, 1, "base")])
        assert (result["policies"][0]["lift"] > 0) == (name == "mostly_more")
        assert result["verdict"] == "not enough evidence", "the interval holds 0"
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
    assert run(tiny_world(), [fixed(always, 2, "truth", "reference"), *rows])["subject"] == "first"
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
    assert world.resets == [(customers_seed(seed, "evaluate"), 5) for seed in (3, 3, 4, 4)]
    with pytest.raises(UserError, match="different names"):
        list(play([rows[1], rows[1]], lambda seed: world, [0]))


def test_each_seed_has_its_world_the_first_is_traced_and_references_read_lanes(tiny_world, always) -> None:
    worlds = {seed: tiny_world() for seed in (3, 4)}

    class LaneReader:
        name = "oracle"

        def __init__(self, world) -> None:
            self.world = world

        def act(self, observation, rng):
            assert len(observation.actions.candidates) == len(self.world.todo), "every lane is asked"
            return self.world.todo % 4, np.ones(len(self.world.todo))

    rows = [Contender("oracle", lambda seed: LaneReader(worlds[seed]), "reference"), fixed(always, 0, "base")]
    played = list(play(rows, worlds.__getitem__, [3, 4], customers=5, trace=2))
    assert [(seed, name, len(result.trace) > 0) for seed, name, result in played] == [
        (3, "oracle", True), (3, "base", True), (4, "oracle", False), (4, "base", False),
    ]  # fmt: skip
    assert [len(world.resets) for world in worlds.values()] == [2, 2]


def test_an_evaluation_in_a_world_says_what_customers_brought(tiny_world, always) -> None:
    rows = [fixed(always, 1, "model", "candidate"), fixed(always, 0, "base")]
    runs = collect(rows, play(rows, lambda seed: tiny_world(), [0, 1], customers=4))
    result = evaluate_world("tiny", runs, "model", 0.9)
    assert result["n"] == 8 and list(result["baselines"]) == ["base"]
    means = {name: entry["mean"] for name, entry in result["metrics"].items()}
    assert (means["return"], means["decisions"], means["visits"], means["length"]) == (3.5, 7 / 4, 5 / 4, 7 / 5)
    assert result["baselines"]["base"]["return"]["mean"] == 7 / 4
    with pytest.raises(UserError, match="model, base"):
        evaluate_world("tiny", runs, "other", 0.9)


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


def test_returns_are_discounted_by_the_most_far_sighted_model() -> None:
    """On the same customers a longer discount counts more of what follows, in every row; without models it is the default."""
    from qurate.experiments.compare import compare
    from qurate.experiments.evaluate import evaluate
    from qurate.training.train import train

    small = {"hidden": 8, "embedding_dim": 4, "window": 3}
    near, far = (train(env="toy_chain", steps=256, gamma=gamma, **small) for gamma in (0.5, 0.95))
    both, short, none = (compare([*models, "random"], "toy_chain", seeds=1, customers=40) for models in ([near, far], [near], []))
    assert [result["gamma"] for result in (both, short, none)] == [0.95, 0.5, 0.9]
    at_random = [next(p["discounted"] for p in result["policies"] if p["name"] == "random") for result in (both, none, short)]
    assert at_random == sorted(at_random, reverse=True) and len(set(at_random)) == 3
    played = evaluate(near, env="toy_chain", seeds=1, customers=40).to_dict()
    assert played["gamma"] == 0.5 and played["baselines"]["random"]["discounted"]["mean"] == pytest.approx(at_random[2])
