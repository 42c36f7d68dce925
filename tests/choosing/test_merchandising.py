"""Masks by hand, and shop rules: pins stand, blocks never show, quotas hold, propensities stay exact."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from policy_data import observe
from qurate.choosing.merchandising import (
    MerchandisingRules,
    Pin,
    Quota,
    allowed,
    available,
    choose_with_rules,
    contains,
    propensity_with_rules,
    unseen,
)
from qurate.choosing.selection import GREEDY, UNIFORM, softmax_rule
from qurate.choosing.slate_sampling import is_shared
from qurate.errors import UserError
from qurate.types import ALWAYS, NEVER, Availability


def test_allowed_drops_padding_and_masked() -> None:
    mask = np.array([[1, 1, 0], [1, 0, 1]], np.int8)
    observation = observe([[1], [2]], np.array([[3, 0, 5], [3, 4, 5]]), mask=mask)
    assert allowed(observation).tolist() == [[True, False, False], [True, False, True]]


def test_allowed_stays_one_row_where_candidates_are_shared() -> None:
    got = allowed(observe([[1], [2], [3]], np.array([1, 0, 3])))
    assert is_shared(got) and got.tolist() == [[True, False, True]] * 3


@pytest.mark.parametrize("shared", [True, False])
def test_available_is_from_since_until_before_until_at_each_rows_clock(shared: bool) -> None:
    availability = Availability(np.array([NEVER, ALWAYS, 10, 20]), np.array([NEVER, 15, NEVER, 30]))
    clock = np.array([9, 10, 14, 15, 20, 30])
    candidates = np.broadcast_to(np.array([1, 2, 3, 0]), (6, 4))
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]]
    assert available(candidates if shared else candidates.copy(), availability, clock).tolist() == (np.array(expected) > 0).tolist()


@pytest.mark.parametrize("shared", [True, False])
def test_seen_and_excluded(shared: bool) -> None:
    candidates = np.arange(6) if shared else np.arange(6)[None].repeat(2, 0)
    observation = observe([[2, 2, 5], [1]], candidates)
    assert unseen(observation).tolist() == [[True, True, False, True, True, False], [True, False, True, True, True, True]]
    assert contains(observation.actions.candidates, np.array([0, 3, 900])).tolist() == [[False, False, False, True, False, False]] * 2


def draw(rules: MerchandisingRules, k: int, n: int = 500, width: int = 6, rule: object = UNIFORM) -> np.ndarray:
    """Items of n slates over the candidates 1..width."""
    candidates = np.broadcast_to(np.arange(1, width + 1), (n, width))
    scores = np.zeros((n, width), np.float32)
    slate, propensity = choose_with_rules(rule, rules, scores, np.ones((n, width), bool), candidates, k, np.random.default_rng(0))
    assert ((propensity > 0) == (slate >= 0)).all()
    again = propensity_with_rules(rule, rules, scores, np.ones((n, width), bool), candidates, slate)
    assert np.allclose(propensity, again, atol=1e-15)
    return slate + 1


def test_pin_stands_at_its_place_and_nowhere_else() -> None:
    items = draw(MerchandisingRules(pins=(Pin(4, 1), Pin(2, 0))), 3)
    assert (items[:, :2] == [2, 4]).all() and set(items[:, 2]) == {1, 3, 5, 6}


def test_pin_that_may_not_be_shown_is_left_out() -> None:
    items = draw(MerchandisingRules(pins=(Pin(4, 0), Pin(77, 1)), block=(4,)), 2)
    assert set(items.ravel()) == {1, 2, 3, 5, 6}


def test_block_never_shows_and_may_empty_the_slate() -> None:
    assert set(draw(MerchandisingRules(block=(1, 2, 3)), 3).ravel()) == {4, 5, 6}
    assert (draw(MerchandisingRules(block=(1, 2, 3, 4, 5)), 2) == [6, 0]).all()


def test_quotas_hold_at_both_ends() -> None:
    items = draw(MerchandisingRules(quotas=(Quota((1, 2, 3), at_most=1), Quota((6,), at_least=1))), 3)
    assert (np.isin(items, [1, 2, 3]).sum(axis=1) <= 1).all() and (items == 6).any(axis=1).all()
    assert (items[:, 0] == 6).mean() < 0.5  # not forced before it must be


def test_a_minimum_forces_the_last_place_only() -> None:
    items = draw(MerchandisingRules(quotas=(Quota((6,), at_least=1),)), 2)
    assert set(items[:, 0]) == {1, 2, 3, 4, 5, 6} and (items[items[:, 0] != 6, 1] == 6).all()


def test_a_pin_beats_a_quota() -> None:
    items = draw(MerchandisingRules(pins=(Pin(4, 0),), quotas=(Quota((3, 4), at_most=0),)), 2)
    assert (items[:, 0] == 4).all() and set(items[:, 1]) == {1, 2, 5, 6}


def test_two_minimums_share_the_places_left() -> None:
    items = draw(MerchandisingRules(quotas=(Quota((1, 2), at_least=1), Quota((3, 4), at_least=1))), 2)
    assert np.isin(items, [1, 2]).sum(axis=1).tolist() == [1] * 500 == np.isin(items, [3, 4]).sum(axis=1).tolist()


def test_minimum_sees_pins_further_down() -> None:
    """The pinned item fills the quota at place 2, so places 0 and 1 are free; a foreign pin takes a place away."""
    assert len(set(draw(MerchandisingRules(pins=(Pin(6, 2),), quotas=(Quota((6, 5), at_least=1),)), 3)[:, 0])) == 5
    items = draw(MerchandisingRules(pins=(Pin(1, 1),), quotas=(Quota((5, 6), at_least=1),)), 2)
    assert set(items[:, 0]) == {5, 6} and (items[:, 1] == 1).all()


def test_minimum_without_items_gives_way() -> None:
    assert (draw(MerchandisingRules(quotas=(Quota((70, 71), at_least=2),)), 2) > 0).all()


def test_contradictory_rules_are_refused() -> None:
    for bad in (
        lambda: MerchandisingRules(pins=(Pin(1, 0), Pin(2, 0))),
        lambda: MerchandisingRules(pins=(Pin(1, 0), Pin(1, 1))),
        lambda: MerchandisingRules(pins=(Pin(1, -1),)),
        lambda: MerchandisingRules(quotas=(Quota((1,), at_least=2, at_most=1),)),
    ):
        with pytest.raises(UserError):
            bad()


@settings(max_examples=40, deadline=None)
@given(
    block=st.sets(st.integers(1, 5), max_size=2),
    pin=st.none() | st.tuples(st.integers(1, 5), st.integers(0, 2)),
    group=st.sets(st.integers(1, 5), min_size=1, max_size=3),
    least=st.integers(0, 2),
    most=st.integers(2, 3),
    greedy=st.booleans(),
)
def test_propensities_over_all_slates_sum_to_one(
    block: set[int], pin: tuple[int, int] | None, group: set[int], least: int, most: int, greedy: bool
) -> None:
    open_items = set(range(1, 6)) - block
    assume(len(open_items - group) + min(most, len(open_items & group)) >= 3)  # else no slate of three exists
    rules = MerchandisingRules((Pin(*pin),) if pin else (), tuple(block), (Quota(tuple(group), least, most),))
    slates = np.array(list(itertools.permutations(range(-1, 5), 3)) + [(a, -1, -1) for a in range(5)], np.int64)
    # only slates that are filled from the top can come about
    full = slates[((slates[:, :-1] >= 0) | (slates[:, 1:] < 0)).all(axis=1)]
    n = len(full)
    candidates = np.broadcast_to(np.arange(1, 6), (n, 5))
    scores = np.broadcast_to(np.array([1, 2, 2, 0, 1], np.float32), (n, 5))
    stated = propensity_with_rules(GREEDY if greedy else softmax_rule(1.0), rules, scores, np.ones((n, 5), bool), candidates, full)
    ended = np.where(full >= 0, stated, 1.0).prod(axis=1)
    complete = (full >= 0).all(axis=1)
    assert ended[complete].sum() == pytest.approx(1, abs=1e-12)
