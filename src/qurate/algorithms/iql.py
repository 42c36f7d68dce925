"""Implicit Q-learning (Kostrikov, Nair and Levine 2021, arXiv:2110.06169), and behaviour cloning, its policy without weights.

Neither takes a maximum over actions, so that no action the log has not shown is ever valued.
"""

from typing import cast

import torch

from qurate.algorithms import value_learning as td
from qurate.algorithms.catalogue_losses import chosen_cross_entropy
from qurate.algorithms.dqn import component_values, head_weights
from qurate.algorithms.objective import Loss, Networks, TensorBatch, of_action
from qurate.networks.catalogue_values import CatalogueValues
from qurate.settings import ImplicitSettings, Settings

LARGEST_WEIGHT = 100.0
"""Weights of the policy's rows are cut here, as in the authors' code."""


def iql(networks: Networks, batch: TensorBatch, rng: torch.Generator, *, settings: Settings, organic: bool = False) -> Loss:
    """The sum of three losses, on one item table:

    * V(s) is an expectile of Q_target(s, a) over what the log shows in s (eq. 5). Components have one common side, that of
      their sum, so that the sum of the components of V is the expectile of the sum of those of Q.
    * Q(s, a) is regressed to r + gamma V(s') (eq. 6).
    * the policy, the network's behaviour head: -exp(beta (Q_target(s, a) - V(s))) log pi(a | s) (eq. 7).
    """
    s, kind, net = settings.learning, cast(ImplicitSettings, settings.algorithm), networks.online
    online, of = net.bind(rng), of_action(batch)
    values = cast(CatalogueValues, online(batch.state))
    v_tm1 = values.heads.state_value
    assert v_tm1 is not None
    q_tm1 = values.by_head(batch.action[:, None], of)[:, 0]  # [B, H]
    with torch.no_grad():
        target = component_values(networks.target(batch.state), batch.action, net.n_components, batch.action_features)
        advantage = target - v_tm1  # [B, R]
        v_t = cast(CatalogueValues, online(batch.next_state)).heads.state_value
        assert v_t is not None
        discount, bootstrap = batch.discount[:, None], batch.bootstrap[:, None]
        if net.form == "single":
            goal = td.q_target(batch.reward + batch.later_reward, discount, v_t)
            counted = bootstrap.expand_as(goal)
        else:
            goal, counted = td.now_later_targets(batch.reward, batch.later_reward, discount, v_t, bootstrap)
        weight = (kind.inverse_temperature * advantage.sum(1)).exp().clamp(max=LARGEST_WEIGHT)
    error = (goal - q_tm1) * counted
    of_q = (td.error_loss(error, s.loss) * head_weights(batch, net.n_components, net.form, s.later_weight, organic=False)).sum(1)
    of_v = td.expectile_loss(target - v_tm1, kind.expectile, advantage.sum(1, keepdim=True)).sum(1)
    of_policy = settings.offline.aux_weight * weight * chosen_cross_entropy(values, batch, rng)
    stats = {"q": q_tm1.detach().sum(1).mean(), "q_max": v_t.sum(1).abs().max()}
    return Loss((of_q, of_v, of_policy), error.detach().sum(1), stats)


def behaviour_cloning(networks: Networks, batch: TensorBatch, rng: torch.Generator, *, settings: Settings, organic: bool = False) -> Loss:
    """-log pi_b(a | s) of what the log shows (Pomerleau 1991, doi:10.1162/neco.1991.3.1.88); rewards and successors are not read."""
    values = cast(CatalogueValues, networks.online.bind(rng)(batch.state))
    losses = chosen_cross_entropy(values, batch, rng)
    nothing = losses.new_zeros(())
    return Loss((losses,), losses.detach(), {"q": nothing, "q_max": nothing})
