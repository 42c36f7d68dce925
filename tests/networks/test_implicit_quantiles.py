"""Quantiles at any fraction over a catalogue: Q is their mean, whoever asks, and one item's quantiles are those of all."""

from typing import cast

import numpy as np
import pytest
import torch

from qurate.algorithms.table import algorithm_settings
from qurate.networks.build import build_network
from qurate.networks.implicit_quantiles import ImplicitNetwork, ImplicitValues
from qurate.networks.values import to_tensors
from qurate.types import OpenActions, State

ITEMS, ROWS = 9, 6


def network(**given: object) -> ImplicitNetwork:
    settings = algorithm_settings("iqn", {"hidden": 8, "embedding_dim": 4, "policy_quantiles": 5} | given)
    features = np.random.default_rng(0).normal(size=(ITEMS + 1, 3)).astype(np.float32)
    features[0] = 0
    built = build_network(features, settings, n_types=2, user_dim=1, n_components=3, behaviour=True, seed=0)
    module = cast(ImplicitNetwork, built)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    return module.eval()


def values(module: ImplicitNetwork) -> ImplicitValues:
    rng = np.random.default_rng(1)
    items, types = rng.integers(1, ITEMS + 1, (ROWS, 4)), rng.integers(1, 3, (ROWS, 4))
    gaps, worth = rng.random((ROWS, 4)).astype(np.float32), rng.random((ROWS, 4)).astype(np.float32)
    state = State(items, types, gaps, worth, *(rng.random((ROWS, n)).astype(np.float32) for n in (1, 2)))
    return cast(ImplicitValues, module.bind()(to_tensors(state)))


@pytest.mark.parametrize("given", [{}, {"head": "dueling"}, {"encoder": "gru"}])
def test_q_is_the_mean_of_the_quantiles_at_equally_spaced_fractions(given: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    of = values(network(**given))
    fractions = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    monkeypatch.setattr(torch, "rand", lambda rows, count, **_: fractions.expand(rows, count))
    with torch.no_grad():
        everything = of.all()
        for item in range(1, ITEMS + 1):
            theta, drawn = of.quantiles(torch.full((ROWS,), item), 5, torch.Generator())
            assert torch.equal(drawn, fractions.expand(ROWS, 5)) and float(theta.std(1).min()) > 1e-4
            assert torch.allclose(theta.mean(1), everything[:, item], atol=1e-5)
        several = torch.arange(1, ITEMS + 1).expand(ROWS, -1)
        assert torch.allclose(of.of(several), everything[:, 1:], atol=1e-5)
        assert torch.allclose(of.by_head(several)[:, :, 0], everything[:, 1:], atol=1e-5)
        assert of.best(OpenActions(None, None, None, None)).tolist() == (1 + everything[:, 1:].argmax(1)).tolist()


def test_the_behaviour_head_reads_the_state_s_own_vector() -> None:
    """Not the one that is multiplied: what a customer chose does not depend on a fraction."""
    module = network()
    with torch.no_grad():
        before = values(module).mean.behaviour_logits()
        module.embedding[0].weight.add_(1.0)  # type: ignore[operator, union-attr]
        assert torch.equal(values(module).mean.behaviour_logits(), before)
