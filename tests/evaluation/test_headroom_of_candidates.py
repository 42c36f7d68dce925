"""Where each step has candidates of its own, references are measured on them."""

import pytest

from qurate.evaluation import headroom
from qurate.evaluation.headroom import measure


def test_a_world_with_candidates_is_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not observed keeps the candidates of the first step; worlds that show all items need no observation."""
    made: list[bool] = []
    make = headroom.make_engine
    monkeypatch.setattr(headroom, "make_engine", lambda name, **options: made.append(options.get("observe", True)) or make(name, **options))
    measure("interest_evolution", customers=5, seeds=(0,))
    assert made == [True]
    made.clear()
    measure("toy_chain", customers=5, seeds=(0,))
    assert made[-1] is False
