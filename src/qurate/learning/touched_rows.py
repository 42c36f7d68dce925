"""Training of item ids row by row: an update costs what its batch touches, not what the catalogue holds.

Ids get sparse gradients (`TouchedTable`). Adam then moves only the rows that have one, and only their moments decay ("lazy" Adam, as
`torch.optim.SparseAdam`; it differs from Adam, which moves every row by its memory of old gradients). The averaged rows follow
exactly: while a row does not move, t steps of the average with decay d are one step with decay d^t, taken when the row moves next.
"""

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from qurate.networks.item_tower import STALE, ItemTower

FORGETTING = -1e3
"""Least logarithm of a decay, for a decay of 0: it keeps nothing."""


class LazyAdam(torch.optim.Adam):
    """Adam (fused) where gradients are dense, and lazy Adam where they are sparse and coalesced."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; a closure is not taken."""
        assert closure is None
        sparse = [(p, p.grad, group) for group in self.param_groups for p in group["params"] if p.grad is not None and p.grad.is_sparse]
        for parameter, _, _ in sparse:
            parameter.grad = None
        super().step()
        for parameter, gradient, group in sparse:
            self._step_rows(parameter, gradient, group)
            parameter.grad = gradient

    def _step_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        (first, second), step = group["betas"], float(state["step"])
        rows, g = gradient.indices()[0], gradient.values()
        mean = state["exp_avg"].index_select(0, rows).lerp_(g, 1 - first)
        square = state["exp_avg_sq"].index_select(0, rows).mul_(second).addcmul_(g, g, value=1 - second)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        size = square.sqrt_().div_(math.sqrt(1 - second**step)).add_(group["eps"])
        moved = parameter.index_select(0, rows).addcdiv_(mean, size, value=-group["lr"] / (1 - first**step))
        parameter.index_copy_(0, rows, moved)  # faster than `index_add_`


class TouchedRows:
    """What a learner does besides where the ids of its network's item tower are trained row by row.

    Args:
        tower: of the network. average: that of its average.
    """

    def __init__(self, tower: ItemTower, average: ItemTower) -> None:
        self.tower, self.pairs = tower, list(zip(_ids(tower), _ids(average), strict=True))
        ids = self.pairs[0][0]
        self.now, self.at = 0.0, torch.zeros(len(ids), dtype=torch.float64, device=ids.device)  # sums of the logarithms of decays

    def clip(self, parameters: list[Tensor], most: float) -> Tensor:
        """`clip_grad_norm_` that also takes sparse gradients, which are then coalesced; the norm before."""
        for parameter, _ in self.pairs:
            if parameter.grad is not None:
                parameter.grad = parameter.grad.coalesce()
        gradients = [p.grad.values() if p.grad.is_sparse else p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))
        return norm

    @torch.no_grad()
    def before_step(self) -> None:
        """The averages of the rows that are about to move, brought up to date."""
        rows = self._moving()
        kept = self._kept(self.at.index_select(0, rows))
        for parameter, average in self.pairs:
            late = average.index_select(0, rows)  # several times as fast as an index in brackets
            average.index_copy_(0, rows, torch.lerp(parameter.index_select(0, rows), late, kept))
        self.at.index_fill_(0, rows, self.now)

    def after_step(self, decay: float, updates: int) -> None:
        """The step was taken; the averages keep the share `decay` of what they were."""
        self.tower.moved(self._moving())
        if updates % STALE == 0:
            self.tower.renew()
        self.now += max(math.log(decay), FORGETTING) if decay > 0 else FORGETTING

    @torch.no_grad()
    def followed(self, network: nn.Module) -> nn.Module:
        """A copy of the averaged network whose rows are up to date."""
        out = copy.deepcopy(network)
        for (parameter, _), average in zip(self.pairs, _ids(cast(ItemTower, touched_tower(out)))):
            average.copy_(torch.lerp(parameter, average, self._kept(self.at)))
        return out

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs besides the networks."""
        return {"now": torch.tensor(self.now, dtype=torch.float64), "at": self.at, **self.tower.searched_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes on from what `state` returned."""
        self.now = float(state["now"])
        self.at = state["at"].to(self.at.device)
        self.tower.restore_searched({name: part.to(self.at.device) for name, part in state.items() if name not in ("now", "at")})

    def _moving(self) -> Tensor:
        """The rows with a gradient: every look-up reads the ids, not every one their biases."""
        gradient = self.pairs[0][0].grad
        return torch.zeros(0, dtype=torch.int64, device=self.at.device) if gradient is None else gradient.indices()[0]

    def _kept(self, at: Tensor) -> Tensor:
        """The share that averages keep of what they were, float32 [n, 1]."""
        return torch.exp(self.now - at).float()[:, None]


def touched_tower(module: nn.Module) -> ItemTower | None:
    """The item tower of a network, where its ids are trained row by row."""
    return next((part for part in module.modules() if isinstance(part, ItemTower) and part.touched), None)


def _ids(tower: ItemTower) -> list[Tensor]:
    """Ids [N + 1, d] and their biases [N + 1, H]."""
    return [cast(Tensor, tower.ids), cast(Tensor, tower.id_bias)]
