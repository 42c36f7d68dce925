"""Layers with learned noise: the paper's formula, what shares noise and what does not, and the means without a generator."""

import numpy as np
import pytest
import torch

from qurate.algorithms.table import CATALOGUE_ONLY, algorithm_settings
from qurate.environments.observation_layout import TaskSpec
from qurate.networks.build import build_network, build_task_network
from qurate.networks.noisy import NoisyLinear
from qurate.networks.values import to_tensors
from qurate.training.on_task import TASK_DEFAULTS
from qurate.types import DenseState, State

INPUTS, OUTPUTS, ROWS = 5, 3, 4


def test_it_is_the_formula_of_the_paper() -> None:
    """Fortunato et al. 2018, eq. 9 to 11, weight by weight."""
    layer = NoisyLinear(INPUTS, OUTPUTS, 0.5)
    x = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(1))
    got = layer(x, torch.Generator().manual_seed(7)).detach().numpy()
    drawn = torch.Generator().manual_seed(7)
    e_in, e_out = (torch.randn(ROWS, n, generator=drawn).numpy() for n in (INPUTS, OUTPUTS))
    mean, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    for b in range(ROWS):
        for j in range(OUTPUTS):
            f_j = np.sign(e_out[b, j]) * np.sqrt(abs(e_out[b, j]))
            y = bias[j] + 0.5 / np.sqrt(INPUTS) * f_j
            for i in range(INPUTS):
                f_i = np.sign(e_in[b, i]) * np.sqrt(abs(e_in[b, i]))
                y += (mean[j, i] + 0.5 / np.sqrt(INPUTS) * f_i * f_j) * float(x[b, i])
            assert got[b, j] == pytest.approx(y, abs=1e-5)


def test_without_a_generator_there_is_no_noise() -> None:
    layer, x = NoisyLinear(INPUTS, OUTPUTS, 0.5), torch.ones(ROWS, INPUTS)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_rows_have_noise_of_their_own_and_what_stands_between_shares_it() -> None:
    layer, x = NoisyLinear(INPUTS, OUTPUTS, 0.5), torch.ones(ROWS, 6, INPUTS)
    out = layer(x, torch.Generator().manual_seed(0))
    assert torch.allclose(out, out[:, :1].expand(-1, 6, -1)) and len({tuple(row) for row in out[:, 0].tolist()}) == ROWS


def test_its_mean_over_draws_is_the_mean_and_sigma_gets_a_gradient() -> None:
    layer, x = NoisyLinear(INPUTS, OUTPUTS, 0.5), torch.ones(20_000, INPUTS)
    out = layer(x, torch.Generator().manual_seed(0))
    assert torch.allclose(out.mean(0), layer(x)[0], atol=0.05) and float((out - layer(x)).detach().std()) > 0.3
    out.square().sum().backward()
    assert layer.weight_sigma.grad is not None and float(layer.weight_sigma.grad.abs().min()) > 0


@pytest.mark.parametrize("name", ["noisy_dqn", "rainbow"])
@pytest.mark.parametrize("head", ["plain", "dueling"])
def test_values_of_a_task_move_with_the_noise_and_without_it_stand_still(name: str, head: str) -> None:
    given = {"head": "dueling"} if head == "dueling" else {}
    settings = algorithm_settings(name, given, TASK_DEFAULTS, CATALOGUE_ONLY)
    network = build_task_network(TaskSpec((2,), np.dtype(np.float32), (), 3), settings, seed=0)
    state = to_tensors(DenseState(np.ones((4, 2), np.float32), np.zeros((4, 0), np.int64)))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        still, again, noisy, other = (network.bind(r)(state).all()[:, 1:] for r in (None, None, rng, rng))
    assert torch.equal(still, again) and not torch.equal(noisy, other)
    assert torch.allclose(still, still[:1].expand(4, -1), atol=1e-6) and float(noisy.std(0).min()) > 1e-3


@pytest.mark.parametrize("name", ["noisy_dqn", "rainbow"])
def test_values_over_a_catalogue_do_too(name: str) -> None:
    settings = algorithm_settings(name, {"hidden": 8, "embedding_dim": 4})
    network = build_network(np.eye(7, 6, -1).astype(np.float32), settings, n_types=2, user_dim=0, n_components=1, behaviour=False, seed=0)
    history = np.ones((4, 3), np.int64)
    state = to_tensors(
        State(history, history, *(np.ones((4, 3), np.float32),) * 2, np.zeros((4, 0), np.float32), np.ones((4, 2), np.float32))
    )
    network.eval()  # type: ignore[attr-defined]
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        still, again, noisy = (network.bind(r)(state).all()[:, 1:] for r in (None, None, rng))
    assert torch.equal(still, again) and torch.allclose(still, still[:1].expand(4, -1), atol=1e-6)
    assert float((noisy - noisy.mean(1, keepdim=True)).std(0).min()) > 1e-4, "it changes which item is best, not only the state's value"
