"""The myopic learner among slates: SlateQ with the settings of the model compared, and gamma 0."""

from typing import Any

import pytest

from qurate.experiments import compare as comparison
from qurate.training.train import train

WORLD = "interest_evolution,slate_size=2"


def test_the_myopic_learner_of_slates_looks_no_further_than_its_own_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def noted(**given: Any) -> Any:
        asked.append(given)
        return train(**given | {"steps": 64})

    monkeypatch.setattr(comparison, "train", noted)
    model = train(env=WORLD, algorithm="slateq", steps=128, hidden=8, window=6)
    comparison.compare([model, "myopic"], WORLD, seeds=1, customers=5)
    [given] = asked
    assert (given["algorithm"], given["gamma"], given["steps"]) == ("slateq", 0.0, model.metrics["steps"])
    assert given["hidden"] == 8 and given["window"] == 6
