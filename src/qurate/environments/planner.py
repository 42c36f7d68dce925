"""A reference that tries its choices on copies of the customers, in any world of single items.

A rollout policy (Bertsekas 2019, Reinforcement Learning and Optimal Control, section 2.4): the first few choices of a base policy are each
shown to copies of the customer, who meet the base policy from then on, with luck of their own. It sees the latent state and knows the
world's dynamics, but not what will happen: the luck of the copies is not the customer's. It is no optimum: later decisions are the base
policy's, and only so many are looked at.
"""

import copy
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qurate.environments.engine import BatchedEngine
from qurate.environments.references import LatentPolicy
from qurate.environments.rng import mix
from qurate.errors import Code, UserError
from qurate.types import FloatArray

TRIED, FUTURES, HORIZON = 3, 16, 60
"""Choices that are compared, copies of the customer for each, and decisions that are looked at, the first one included. With 15 decisions
it earned less in `live` than the base policy: what a choice changes comes back later than that."""
CERTAIN = 2.0
"""Standard errors of the mean difference by which another choice must be better than the base policy's."""

Reference = Callable[[BatchedEngine], LatentPolicy]


def planner(base: Reference, engine: BatchedEngine) -> LatentPolicy:
    """The best of the first choices of `base`, where the copies say so with some certainty; else what `base` shows.

    Args:
        base: of the same world, such as `far_sighted`.
        engine: of single items.

    Raises:
        UserError: the engine shows slates.
    """
    if engine.slate_size != 1:
        raise UserError("single items", f"slates of {engine.slate_size}", where="planner", code=Code.BAD_ARGUMENT)
    return LatentPolicy(engine, "planner", _Planned(base, engine))


class _Planned:
    """Values of the items 1..N for each lane, float [B, N]: those of the base policy, raised above them for the choice of the copies.

    Only the first customer of each lane is planned for, which is whom a measurement counts; whoever follows meets the base policy.
    """

    def __init__(self, base: Reference, engine: BatchedEngine) -> None:
        self.base, self.copies = base(engine), copy.deepcopy(engine)
        self.follow = base(self.copies)

    def __call__(self, engine: BatchedEngine) -> FloatArray:
        values = np.array(self.base.values(engine), np.float32)
        lanes = np.flatnonzero(engine.customer < engine.n)
        observation = engine.observation
        ranked = np.argsort(-self.base.scores(observation)[lanes], axis=1, kind="stable")
        open_ = np.take_along_axis(observation.actions.mask[lanes], ranked, axis=1) > 0
        tried = min(TRIED, ranked.shape[1])
        if not len(lanes) or tried < 2:
            return values
        returns = self._returns(engine, lanes, ranked[:, :tried])
        gain = returns - returns[:, :, :1]  # [futures, lanes, tried], of the same luck
        mean, error = gain.mean(0), gain.std(0, ddof=1) / FUTURES**0.5
        sure = np.where(open_[:, :tried] & (mean > CERTAIN * error), mean, 0)
        best = sure.argmax(1)
        items = observation.actions.candidates[lanes, ranked[np.arange(len(lanes)), best]] - 1
        values[lanes, items] = np.where(best > 0, np.inf, values[lanes, items])
        return values

    def _returns(self, engine: BatchedEngine, lanes: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Undiscounted rewards of the next decisions after each of `positions` [lanes, tried]: [FUTURES, lanes, tried]."""
        tried, count = positions.shape[1], FUTURES * positions.size
        self._copy(engine, np.tile(np.repeat(lanes, tried), FUTURES))
        luck = mix(engine._stream[lanes] + np.arange(1, FUTURES + 1, dtype=np.uint64)[:, None])  # every choice meets the same luck
        self.copies._stream[...] = np.repeat(luck.ravel(), tried)
        actions, here, total = np.tile(positions.ravel(), FUTURES), np.ones(count, np.bool_), np.zeros(count)
        for step in range(HORIZON):
            feedback = self.copies.step(actions)
            total += here * feedback.reward
            here &= ~(feedback.terminated | feedback.truncated)
            if step + 1 == HORIZON or not here.any():
                break
            actions = self.follow.act(self.copies.observation, _NO_LUCK)[0]
        return total.reshape(FUTURES, len(lanes), tried)

    def _copy(self, engine: BatchedEngine, lanes: NDArray[np.int64]) -> None:
        """Puts customers of the engine's `lanes` into the lanes of the copies, one for each."""
        state = engine.state()
        out: dict[str, NDArray[np.generic]] = {"seed": state["seed"], "n": np.array(len(lanes)), "_until_compact": state["_until_compact"]}
        for name, array in state.items():
            if name not in out:  # histories lie one after the other, as many rows for each lane
                rows = array.reshape(engine.n, -1)[lanes]
                out[name] = rows.reshape(len(lanes) * (len(array) // engine.n), *array.shape[1:])
        moved = (np.arange(len(lanes)) - lanes) * (len(state["_codes"]) // engine.n)
        out["_end"] = out["_end"].astype(np.int64) + moved  # a place among all histories
        if state["seed"].ndim:
            out["seed"] = state["seed"][lanes]
        self.copies.restore(out)


_NO_LUCK = np.random.default_rng(0)
"""The base policy draws nothing."""
