"""The table of worlds: every record is complete, limits are kept, and mistakes are named."""

import dataclasses

import numpy as np
import pytest

from qurate.environments import registry
from qurate.environments.registry import make_engine
from qurate.environments.worlds import WORLDS, Option, environment_name, is_world, references
from qurate.errors import Code, UserError

OPEN = [name for name, record in WORLDS.items() if not record.needs_source]
"""Worlds that can be made by their name alone; the others are tested by their own files."""


@pytest.mark.parametrize("name", OPEN)
def test_a_record_makes_its_world_and_its_references(name: str) -> None:
    record = WORLDS[name]
    engine = make_engine(name)
    assert engine.max_steps == record.max_steps and engine.n_items == record.options["n_items"].default
    assert environment_name(name) == environment_name(record.gymnasium_id) == name
    assert is_world(name) and is_world(record.gymnasium_id) and not is_world("CartPole-v1")
    assert references(record.gymnasium_id) is record.references and len(record.references) >= 2
    observation = engine.reset(0, 3)
    for key, make in references(name).items():
        policy = make(engine)
        positions, propensity = policy.act(observation, np.random.default_rng(0))
        assert policy.name == key and positions.shape == (3,) and (propensity == 1).all()
        engine.step(positions)


@pytest.mark.parametrize("name", OPEN)
def test_limits_are_included_and_kept(name: str) -> None:
    for option, limits in WORLDS[name].options.items():
        for value in {limits.low, limits.default}:
            make_engine(name, **{option: value} | ({"drift_day": 1.0} if option == "drift" else {}))
        outside = [limits.low - 1] + ([limits.high + 1] if limits.high < np.inf else [])
        for value in outside:
            with pytest.raises(UserError) as caught:
                make_engine(name, **{option: value})
            assert option in str(caught.value) and name in str(caught.value) and caught.value.code is Code.BAD_ARGUMENT


@pytest.mark.parametrize(
    "arguments,text",
    [
        ({"n_items": 30.5}, "n_items from 2 to 10,000,000 for shop, got 30.5, at n_items; a whole number; 300 if left out"),
        ({"n_items": True}, "n_items from 2 to 10,000,000 for shop, got True"),
        ({"strength": "1"}, "strength from 0 to 2 for shop, got 1"),
        ({"strength": float("nan")}, "strength from 0 to 2 for shop, got nan"),
        ({"strenght": 1}, "an option of shop, got strenght, at shop; did you mean strength?"),
        ({"slate_sise": 1}, "did you mean slate_size?"),
    ],
)
def test_mistakes_are_named(arguments: dict, text: str) -> None:
    with pytest.raises(UserError) as caught:
        make_engine("shop", **arguments)
    assert text in str(caught.value)


def test_what_a_world_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needy = dataclasses.replace(WORLDS["toy_chain"], needs=("numpy", "no_such_package"))
    monkeypatch.setitem(registry.WORLDS, "toy_chain", needy)
    with pytest.raises(UserError, match="expected no_such_package for toy_chain"):
        make_engine("toy_chain")


def test_an_option_with_one_value_is_told_to_leave_out() -> None:
    with pytest.raises(UserError, match="expected n_items=2 for x, got 3, at n_items; leave it out"):
        Option(2, 2, 2).check(3, "n_items", "x")
    Option(1.0, 0, 2).check(2, "strength", "x")


@pytest.mark.parametrize("name", OPEN)
def test_every_reward_is_one_of_an_event(name: str) -> None:
    """So a log of the world pays what the world pays, and baselines can be fitted from it."""
    engine = make_engine(name)
    assert set(engine.component_names) <= set(engine.type_names)
