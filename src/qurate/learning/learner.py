"""One learner for every algorithm: networks, optimiser, and the gradient step. The algorithm is its objective, which gives the loss."""

import copy
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from qurate.algorithms.objective import Networks, Objective, TensorBatch
from qurate.learning.touched_rows import LazyAdam, TouchedRows, touched_tower
from qurate.learning.value_bound import ValueBound
from qurate.networks.item_tower import ItemTower
from qurate.networks.values import BoundNetwork, ValueNetwork, to_tensors
from qurate.settings import LearningSettings
from qurate.types import Batch

BAD_STEPS_BEFORE_ROLLBACK = 10
"""Updates in a row with a loss or gradient that is not finite, after which the last snapshot is restored."""
SNAPSHOT_EVERY = 1_000
MAX_GRADIENT_NORM = 10.0


class Update(NamedTuple):
    """What one update gives back."""

    loss: float
    td_errors: Tensor  # [B], see `Loss`
    stats: dict[str, float]  # the objective's; "stepped": 0 where the step was skipped; "alarm": 1 where |Q| exceeds what rewards allow


class Learner:
    """Online, target and averaged network, the optimiser, and `update`.

    Args:
        network: the online network, an `nn.Module`; it is trained in place.
        objective: see `algorithms.objective`.
        settings: of optimisation; the objective has its own.
        bound: largest |Q| that rewards allow, for the alarm; None = unknown.
        seed: of the objective's random numbers (id dropout, negatives, noise).
        optimiser: "adam" for networks; "sgd" for tables, whose entries move by lr times their own error.
        device: where networks and batches are.
        rate: number of updates made -> factor of the step size of the next one; None = always 1.
    """

    def __init__(
        self, network: ValueNetwork, objective: Objective, settings: LearningSettings, *, bound: ValueBound | None = None,
        seed: int = 0, optimiser: Literal["adam", "sgd"] = "adam", device: torch.device | str = "cpu",
        rate: Callable[[int], float] | None = None,
    ) -> None:  # fmt: skip
        self.network, self.objective, self.settings, self.bound = network, objective, settings, bound or ValueBound()
        self.device, self.rate = torch.device(device), rate
        self.module = cast(nn.Module, network).to(self.device)
        self.target, self._average = copy.deepcopy(self.module), copy.deepcopy(self.module)
        for frozen in (self.target, self._average):
            frozen.requires_grad_(False).eval()
        tower = touched_tower(self.module)
        self._rows = None if tower is None else TouchedRows(tower, cast(ItemTower, touched_tower(self._average)))
        adam: dict[str, float] = {"eps": settings.adam_eps} if optimiser == "adam" else {}
        kind: Any = torch.optim.SGD if not adam else torch.optim.Adam if self._rows is None else LazyAdam
        self.optimiser: torch.optim.Optimizer = kind(self.module.parameters(), lr=settings.lr, fused=True, **adam)
        self._max_norm = MAX_GRADIENT_NORM if optimiser == "adam" else float("inf")
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.updates = self.bad_steps = self.skipped = 0
        # walking the modules for their parameters costs as much as a small product, and they do not change
        parts: list[list[Tensor]] = [list(part.parameters()) for part in (self.module, self.target, self._average)]
        self._parameters, self._targets, means = parts
        by_row = [] if self._rows is None else [id(part) for part, _ in self._rows.pairs]
        averaged = [(part, mean) for part, mean in zip(self._parameters, means) if id(part) not in by_row]
        self._averaged, self._means = [part for part, _ in averaged], [mean for _, mean in averaged]
        self._bound_target: BoundNetwork | None = None
        self._good = self._snapshot()

    def update(self, batch: Batch[Any], weights: Any = None) -> Update:
        """One gradient step on B transitions.

        Args:
            batch: see `types.Batch`; arrays or tensors.
            weights: importance weights float32 [B] (prioritised replay), None = 1.
        """
        if not self.module.training:
            self.module.train()
        on_device: TensorBatch = to_tensors(batch, self.device)
        loss = self.objective(Networks(self.network, self.bound_target()), on_device, self.generator)
        total = loss.total(to_tensors(weights, self.device))
        for parameter in self._parameters:  # as `zero_grad` of the optimiser does, which costs ten times as much
            parameter.grad = None
        torch.autograd.backward(total)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients) if self._rows is None else self._rows.clip(self._parameters, self._max_norm)
        # all figures in one go: each reading of a number waits for the device
        value, size, *figures = torch.stack([total.detach(), norm, *loss.stats.values()]).tolist()
        finite = math.isfinite(value) and math.isfinite(size)
        if finite and size > self._max_norm and self._rows is None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._max_norm, norm)
        stats = dict(zip(loss.stats, figures)) | {"stepped": float(self._step(finite))}
        stats["alarm"] = float(stats["q_max"] > self.bound.value())
        return Update(value, loss.td_errors.detach(), stats)

    @property
    def ema(self) -> nn.Module:
        """The averaged network; a copy where rows follow late."""
        return self._average if self._rows is None else self._rows.followed(self._average)

    def change_buffers(self, change: Callable[[nn.Module], None]) -> None:
        """Changes what no gradient moves, alike in online, target and averaged network."""
        for part in (self.module, self.target, self._average):
            change(part)
        self._bound_target, self._good = None, self._snapshot()

    def bound_target(self) -> BoundNetwork:
        """The target network; what does not depend on the state is kept until the target changes. Noisy layers draw noise."""
        if self._bound_target is None:
            with torch.no_grad():
                self._bound_target = cast(ValueNetwork, self.target).bind(self.generator)
        return self._bound_target

    def _step(self, finite: bool) -> bool:
        """Optimiser, target and average; where loss or gradient is not finite the step is skipped and, when that stays, undone."""
        if not finite:
            self.skipped += 1
            self.bad_steps += 1
            if self.bad_steps >= BAD_STEPS_BEFORE_ROLLBACK:
                self.load_state(self._good)
            return False
        if self.rate is not None:
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.lr * self.rate(self.updates)
        if self._rows is not None:
            self._rows.before_step()
        self.optimiser.step()
        self.bad_steps = 0
        self.updates += 1
        self._move_copies()
        if self.updates % SNAPSHOT_EVERY == 0:
            self._good = self._snapshot()
        return True

    @torch.no_grad()  # else every update would become a part of the copies' graph, which is never freed
    def _move_copies(self) -> None:
        """Target network and average follow the online network."""
        s = self.settings
        if self.updates % s.target_period == 0:
            torch._foreach_lerp_(self._targets, self._parameters, s.target_tau)
            self._bound_target = None
        decay = min(s.ema, self.updates / (self.updates + 10))  # early on, a long memory would keep the random start
        torch._foreach_lerp_(self._means, self._averaged, 1 - decay)
        if self._rows is not None:
            self._rows.after_step(decay, self.updates)

    def _snapshot(self) -> dict[str, Any]:
        return copy.deepcopy(self.state())

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on bit for bit: networks, optimiser, generator, counters."""
        return {
            "network": self.module.state_dict(), "target": self.target.state_dict(), "ema": self._average.state_dict(),
            "rows": {} if self._rows is None else self._rows.state(),
            "optimiser": self.optimiser.state_dict(), "generator": self.generator.get_state(), "updates": self.updates,
            "largest_reward": self.bound.reward,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; from now on this is the state to which a run that has gone wrong returns."""
        state, self._good = copy.deepcopy(state), copy.deepcopy(state)
        for name, part in (("network", self.module), ("target", self.target), ("ema", self._average), ("optimiser", self.optimiser)):
            part.load_state_dict(state[name])
        if self._rows is not None:
            self._rows.restore(state["rows"])
        if state["generator"].shape == self.generator.get_state().shape:  # a run that goes on on another device draws other numbers
            self.generator.set_state(state["generator"])
        self.updates, self.bad_steps, self._bound_target = state["updates"], 0, None
        self.bound.reward = max(self.bound.reward, state.get("largest_reward", 0.0))
