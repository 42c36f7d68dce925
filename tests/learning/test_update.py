"""The learner alone, on a network of two numbers whose gradient is the batch's reward: every step is known in closed form."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qurate.algorithms.objective import Loss, Networks, TensorBatch
from qurate.learning import learner as learning
from qurate.learning.learner import BAD_STEPS_BEFORE_ROLLBACK, Learner
from qurate.learning.value_bound import ValueBound
from qurate.settings import LearningSettings
from qurate.types import Batch, OpenActions


class Line(nn.Module):
    """Two numbers, 0 at first."""

    n_components, form = 2, "single"

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))

    def bind(self, rng: torch.Generator | None = None) -> Callable[[Any], Any]:
        return lambda state: self.w.detach().clone()


def linear(networks: Networks, batch: TensorBatch, rng: torch.Generator) -> Loss:
    """w . r per row, so that the gradient is the (weighted) mean of the rows' rewards; the alarm reads `discount`."""
    row = (networks.online.w * batch.reward).sum(1)  # type: ignore[attr-defined]
    return Loss((row,), batch.reward.sum(1), {"q": row.detach().mean(), "q_max": batch.discount.max()})


def batch(*rewards: tuple[float, float], q_max: float = 0.0) -> Batch:
    """A batch whose rows have these rewards; everything else is empty."""
    n = len(rewards)
    none = np.zeros((n, 0), np.float32)
    return Batch(
        (none,), np.ones(n, np.int64), np.array(rewards, np.float32), np.zeros((n, 2), np.float32), np.full(n, q_max, np.float32),
        np.ones(n, np.float32), (none,), OpenActions(None, None, None, None), np.zeros(n, np.int64), np.arange(n),
    )  # fmt: skip


def learner(objective: Any = linear, bound: ValueBound | None = None, **settings: Any) -> Learner:
    return Learner(Line(), objective, LearningSettings(**{"lr": 0.01, **settings}), bound=bound)


def weights_of(module: nn.Module) -> list[float]:
    return [float(x) for x in module.w.detach()]  # type: ignore[union-attr]


def adam(gradients: list[list[float]], lr: float = 0.01) -> np.ndarray:
    """Kingma and Ba 2015, algorithm 1, from 0."""
    w, m, v = np.zeros(2), np.zeros(2), np.zeros(2)
    for t, g in enumerate(np.array(gradients), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w -= lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


def test_long_gradients_are_cut_to_a_norm_of_10_and_short_ones_are_not() -> None:
    one = learner()
    for reward in ((30.0, 40.0), (3.0, 4.0), (-6.0, 8.0), (9.0, 12.0)):
        one.update(batch(reward))
    cut = [[6, 8], [3, 4], [-6, 8], [6, 8]]
    assert weights_of(one.module) == pytest.approx(adam(cut), rel=1e-4)
    for other in ([[30, 40], *cut[1:]], [*cut[:3], [9, 12]]):
        assert not np.allclose(adam(cut), adam(other), rtol=1e-2), "the test would see it"


def test_importance_weights_multiply_the_rows_of_every_term() -> None:
    one = learner()
    one.update(batch((4.0, 0.0), (0.0, 4.0)), np.array([1.0, 0.25], np.float32))
    one.update(batch((1.0, 0.0), (0.0, 1.0)))
    assert weights_of(one.module) == pytest.approx(adam([[2, 0.5], [0.5, 0.5]]), rel=1e-4)
    two = Loss((torch.tensor([1.0, 3.0]), torch.tensor([10.0, 30.0])), torch.zeros(2), {})
    three = Loss((*two.terms, torch.tensor([100.0, 300.0])), torch.zeros(2), {})
    weights = torch.tensor([2.0, 0.5])
    assert (float(two.total()), float(three.total())) == (22, 222)
    assert (float(two.total(weights)), float(three.total(weights))) == (1.75 * 11, 1.75 * 111)


@pytest.mark.parametrize(("q_max", "alarm"), [(5.0, 0), (5.001, 1), (9.9, 1)])
def test_the_alarm_rings_above_the_bound(q_max: float, alarm: int) -> None:
    assert learner(bound=ValueBound(0.5, reward=2.5)).update(batch((1, 1), q_max=q_max)).stats["alarm"] == alarm


def test_an_update_says_what_it_did() -> None:
    one = learner()
    one.update(batch((1, 2)))
    update = one.update(batch((1, 0), (3, 4)))
    assert update.loss == pytest.approx(2 * -0.01 + 2 * -0.01, rel=1e-3), "the loss before the step: w = (-.01, -.01)"
    assert update.td_errors.tolist() == [1, 7] and not update.td_errors.requires_grad and update.stats["stepped"] == 1


def test_the_average_forgets_the_start_first_and_then_as_slowly_as_set() -> None:
    one, average = learner(ema=0.15), np.zeros(2)
    for t in range(1, 6):
        one.update(batch((1, -1)))
        decay = min(0.15, t / (t + 10))
        average = decay * average + (1 - decay) * np.array(weights_of(one.module))
        assert weights_of(one.ema) == pytest.approx(average, rel=1e-5)


def test_the_target_moves_by_its_share_every_so_many_updates_and_objectives_see_it() -> None:
    seen: list[Tensor] = []

    def watching(networks: Networks, tensors: TensorBatch, rng: torch.Generator) -> Loss:
        seen.append(networks.target(tensors.state))  # type: ignore[arg-type]
        return linear(networks, tensors, rng)

    one = learner(watching, target_period=2, target_tau=0.5)
    history = [np.zeros(2)]
    for _ in range(5):
        one.update(batch((1, -1)))
        history.append(np.array(weights_of(one.module)))
    second = 0.5 * history[2]
    fourth = second + 0.5 * (history[4] - second)
    assert np.allclose([list(x) for x in seen], [[0, 0], [0, 0], second, second, fourth], atol=1e-7)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    def rooted(networks: Networks, tensors: TensorBatch, rng: torch.Generator) -> Loss:
        row = (networks.online.w * 0).abs().sqrt().sum() + tensors.reward.sum(1)  # type: ignore[attr-defined]
        return Loss((row,), row.detach(), {"q": row.detach().mean(), "q_max": row.detach().mean()})

    one = learner(rooted)
    update = one.update(batch((1, 1)))
    assert np.isfinite(update.loss) and update.stats["stepped"] == 0 and one.skipped == 1 and weights_of(one.module) == [0, 0]


def test_a_run_that_goes_wrong_returns_to_its_last_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "SNAPSHOT_EVERY", 3)
    one, path = learner(), []
    for _ in range(5):
        one.update(batch((1, -1)))
        path.append(weights_of(one.module))
    for _ in range(BAD_STEPS_BEFORE_ROLLBACK):
        one.update(batch((float("nan"), 1)))
    assert one.updates == 3 and weights_of(one.module) == path[2]
    one.update(batch((1, -1)))
    assert weights_of(one.module) == pytest.approx(path[3], rel=1e-6), "with the optimiser's memory of then"


def test_a_loaded_learner_goes_on_as_the_saved_one() -> None:
    def noisy(networks: Networks, tensors: TensorBatch, rng: torch.Generator) -> Loss:
        draw = torch.rand(2, generator=rng)
        return linear(networks, tensors._replace(reward=tensors.reward * draw), rng)

    one, other = learner(noisy, target_tau=0.3), learner(noisy, target_tau=0.3)
    for _ in range(4):
        one.update(batch((1, -1)))
    other.load_state(copy.deepcopy(one.state()))
    for each in (one, other):
        for _ in range(3):
            each.update(batch((1, 2)))
    for name in ("module", "target", "ema"):
        assert weights_of(getattr(one, name)) == weights_of(getattr(other, name)), name
    assert one.updates == other.updates == 7


def test_the_objective_sees_a_network_in_training_mode() -> None:
    modes: list[bool] = []

    def watching(networks: Networks, tensors: TensorBatch, rng: torch.Generator) -> Loss:
        modes.append(networks.online.training)  # type: ignore[attr-defined]
        return linear(networks, tensors, rng)

    one = learner(watching)
    one.module.eval()
    one.update(batch((1, 1)))
    assert modes == [True] and not one.target.training and not one.ema.training
