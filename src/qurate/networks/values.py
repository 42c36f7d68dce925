"""What a Q-network answers for a batch of states: one object with the values of their actions.

Actions are numbered 1..N everywhere; 0 is "no action". Items of a catalogue and the actions of a Gymnasium task
(position + 1) are treated alike.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from qurate.types import OpenActions


class ActionValues(Protocol):
    """Values of the actions of B states; Q is the sum over the H heads (components, now and later)."""

    def by_head(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """float32 [B, K, H] for actions int64 [B, K] with features float32 [B, K, F] at this decision (None = not known)."""
        ...

    def of(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Q, float32 [B, K], for actions int64 [B, K] and their features [B, K, F]."""
        ...

    def all(self) -> Tensor:
        """Q of every action, float32 [B, N + 1]; column 0 is meaningless."""
        ...

    def best(self, open_actions: OpenActions[Tensor], support: float = 0.0) -> Tensor:
        """argmax of Q over what is open, int64 [B]; ties go to the lowest index; 0 where nothing is open.

        Args:
            support: only actions with pi_b(a) / max pi_b >= support count, where the network has a behaviour head and
                the actions are no explicit list (discrete BCQ, Fujimoto et al. 2019, arXiv:1910.01708); 0 = all.
        """
        ...


CPU = torch.device("cpu")


def to_tensors(arrays: Any, device: torch.device | str = CPU) -> Any:
    """The same (nested) named tuple with tensors on `device` in place of arrays; None stays None.

    Only read-only arrays are copied.
    """
    if arrays is None:
        return None
    if isinstance(arrays, np.ndarray):
        tensor = torch.from_numpy(arrays if arrays.flags.writeable else arrays.copy())
        return tensor if device == CPU else tensor.to(device)
    if isinstance(arrays, tuple):
        return type(arrays)(*[to_tensors(part, device) for part in arrays])
    return arrays.to(device)


StateTensors = Any
"""A state (`types.State`, `types.DenseState`) whose arrays are tensors."""

BoundNetwork = Callable[[StateTensors], ActionValues]
"""A network whose state-independent part (an item table) is computed: state tensors -> values."""


class ValueNetwork(Protocol):
    """A Q-network: an `nn.Module` with heads for R reward components.

    (A protocol cannot inherit a class; the learner and the model directory take it as a module.)
    """

    n_components: int
    form: str  # "now_later": R heads of `now`, then R of `later`; "single": R heads

    def bind(self, rng: torch.Generator | None = None) -> BoundNetwork:
        """Computes once what does not depend on the state; `rng` draws the dropout of ids in training mode."""
        ...
