"""The ranker of a Gymnasium task: it orders the task's actions by Q."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from qurate.environments.observation_layout import TaskSpec
from qurate.models.ranker import RankingScore, SavedRanker
from qurate.networks.build import build_task_network
from qurate.networks.values import BoundNetwork, ValueNetwork, to_tensors
from qurate.settings import Settings
from qurate.types import FloatArray, IntArray, Observation


@dataclass(frozen=True, eq=False)
class TaskRanker:
    """A Q-network (or a table) over the actions of a task.

    Attributes:
        module: the network, not trained any further.
        spec: of the task.
    """

    module: nn.Module
    spec: TaskSpec

    @property
    def by(self) -> RankingScore:
        """See `Ranker`."""
        return "q"

    @property
    def ranking_scores(self) -> list[RankingScore]:
        """See `Ranker`."""
        return ["q"]

    def __post_init__(self) -> None:
        for parameter in self.module.parameters():
            parameter.detach_()
        self.module.requires_grad_(False).eval()

    @cached_property
    def _bound(self) -> BoundNetwork:
        with torch.no_grad():
            return cast(ValueNetwork, self.module).bind()

    def scores(self, observation: Observation[Any]) -> FloatArray:
        """Q of the candidates, float32 [B, K]."""
        device = next(self.module.parameters()).device
        with torch.no_grad():
            values = self._bound(to_tensors(observation.state, device))
            return values.of(to_tensors(np.array(observation.actions.candidates), device)).cpu().numpy()

    def values(self, observation: Observation[Any], listed: bool | None = None) -> tuple[FloatArray, FloatArray]:
        """Worth and score of the candidates: the same."""
        scores = self.scores(observation)
        return scores, scores

    def candidate_features(self, observation: Observation[Any]) -> FloatArray | None:
        """None: a task has no candidates with features."""
        return None

    def explain(self, state: Any, items: IntArray, features: FloatArray | None = None) -> FloatArray | None:
        """None: a task has no items to explain."""
        return None

    def saved(self) -> SavedRanker:
        """See `Ranker`, for `load_task_ranker`."""
        spec = self.spec._replace(numbers_dtype=np.dtype(self.spec.numbers_dtype).name)._asdict()  # type: ignore[arg-type]
        arrays = {f"network.{name}": value.contiguous().numpy() for name, value in self.module.state_dict().items()}
        return SavedRanker({"task": spec}, arrays)


def load_task_ranker(config: dict[str, Any], arrays: dict[str, NDArray[Any]], settings: Settings) -> TaskRanker:
    """The ranker from what `TaskRanker.saved` gave.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: it is not one of this version.
    """
    given = config["task"]
    spec = TaskSpec(tuple(given["numbers_shape"]), np.dtype(given["numbers_dtype"]), tuple(given["categories"]), int(given["n_actions"]))
    module = cast(nn.Module, build_task_network(spec, settings, seed=0))
    module.load_state_dict({name[8:]: torch.as_tensor(value) for name, value in arrays.items()})
    return TaskRanker(module, spec)
