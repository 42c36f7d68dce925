"""`check_policy`: what a policy may show, and that its propensities are the truth."""

import numpy as np

from qurate.environments.registry import make_engine
from qurate.testing.envs import legal_actions
from qurate.testing.rules import SIGMAS, arrays_of, equal, require, with_mask
from qurate.types import Actions, Observation, Policy, take_rows

DRAWS = 4_000
"""How often `check_policy` has one decision made."""


def check_policy(policy: Policy, observation: Observation | None = None) -> None:
    """A policy: what it may show, and that its propensities are the truth.

    Rules: name, actions, masks, nothing allowed, propensity range, same draw same actions, observation untouched, propensities are
    exact, propensities sum to 1, rows are decided alone.

    Args:
        policy: is asked about changed copies of `observation`, many times.
        observation: of at least 4 customers with at least 6 candidates; by default of a shop with 30 items.
    """
    o = observation if observation is not None else _shop_customers()
    require(isinstance(policy.name, str) and policy.name, "name", "it is empty")
    closed = np.random.default_rng(0).random(o.actions.mask.shape) < 0.5
    closed[:, :3] = False
    for mask in (o.actions.mask, np.where(closed, 0, o.actions.mask).astype(np.int8)):
        _check_choice(policy, with_mask(o, mask))
    nothing, none = policy.act(with_mask(o, np.zeros(o.actions.mask.shape, np.int8)), np.random.default_rng(0))
    require((nothing == -1).all() and not none.any(), "nothing allowed", "position -1 and propensity 0 are due where all are masked")
    few = np.array(o.actions.mask)
    few[:, np.arange(few.shape[1]) % max(few.shape[1] // 5, 1) != 0] = 0
    for row in range(3):
        _check_propensities(policy, with_mask(o, few), row)


def _shop_customers() -> Observation:
    engine = make_engine("shop", n_items=30, window=10)
    observation = engine.reset(0, 16)
    for step in range(3):
        observation = engine.step(legal_actions(engine, observation, step)).obs
    return observation


def _check_choice(policy: Policy, o: Observation) -> None:
    before = [np.array(part) for part in arrays_of(o)]
    actions, propensity = policy.act(o, np.random.default_rng(1))
    require(equal(before, arrays_of(o)), "observation untouched", "act changed it")
    n, k = o.actions.mask.shape
    for array, dtype, name in ((actions, np.int64, "actions"), (propensity, np.float64, "propensities")):
        require(array.dtype == dtype and array.ndim in (1, 2) and len(array) == n, "actions", f"{name} are {array.dtype} {array.shape}")
    require(actions.shape == propensity.shape, "actions", f"shapes {actions.shape} and {propensity.shape} differ")
    slate = actions.reshape(n, -1)
    chosen = slate >= 0
    require(((slate >= -1) & (slate < k)).all(), "actions", f"a position outside 0..{k - 1}")
    legal = np.take_along_axis(o.actions.mask * (o.actions.candidates > 0), np.maximum(slate, 0), axis=1) > 0
    require(legal[chosen].all(), "masks", "a masked candidate was shown")
    ordered = np.sort(slate, axis=1)
    require(not ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(), "actions", "an item twice in a slate")
    p = propensity.reshape(n, -1)
    require(((p[chosen] > 0) & (p[chosen] <= 1 + 1e-12)).all() and not p[~chosen].any(), "propensity range", "not in (0, 1]")
    np.random.seed(1)  # noqa: NPY002 - nobody may look at the global generator
    again = policy.act(o, np.random.default_rng(1))
    require(equal((actions, propensity), again), "same draw, same actions", "the same generator state gave other answers")


def _check_propensities(policy: Policy, o: Observation, row: int) -> None:
    """One decision made DRAWS times: the reported probability of each answer against how often it came."""
    candidates = np.repeat(o.actions.candidates[row : row + 1], DRAWS, axis=0)
    mask = np.repeat(o.actions.mask[row : row + 1], DRAWS, axis=0)
    copies = Observation(take_rows(o.state, np.full(DRAWS, row)), Actions(candidates, mask))
    actions, propensity = policy.act(copies, np.random.default_rng(row))
    slate, p = actions.reshape(DRAWS, -1), propensity.reshape(DRAWS, -1)
    groups = [np.arange(DRAWS)]
    for place in range(slate.shape[1]):
        largest = max(groups, key=len)  # those who share the items above this place
        groups = [largest[slate[largest, place] == position] for position in np.unique(slate[largest, place])]
        if slate[groups[0][0], place] < 0:
            return
        total = 0.0
        for group in groups:
            stated, share = p[group[0], place], len(group) / len(largest)
            require(np.ptp(p[group, place]) <= 1e-12, "propensities are exact", "the same answer to the same question had several")
            error = (stated * (1 - stated) / len(largest)) ** 0.5
            what = f"place {place}: an answer of propensity {stated:.4f} came in {share:.4f} of {len(largest)} draws"
            require(abs(share - stated) <= SIGMAS * error + 2 / len(largest), "propensities are exact", what)
            total += stated
        require(total <= 1 + 1e-9, "propensities sum to 1", f"place {place}: the answers seen have {total:.6f} together")
        missed = 60 / len(largest)  # what few answers that never came can have together
        require(total > 1 - missed, "propensities sum to 1", f"place {place}: the answers seen have only {total:.6f} together")
    whole, stated_whole = policy.act(o, np.random.default_rng(row))
    first, stated_first = whole.reshape(len(whole), -1)[row, 0], stated_whole.reshape(len(whole), -1)[row, 0]
    alone = p[slate[:, 0] == first, 0]
    require(not len(alone) or np.isclose(alone[0], stated_first, rtol=1e-5), "rows are decided alone", "company changes a propensity")
