"""Deep Q-learning and its close relatives: double, n-step, dueling and prioritised DQN, the myopic baseline, BCQ, SQN and CQL.

They differ in settings and in the score that ranks (`algorithms/table.py`), not in this objective. `now_later` networks fit
`now` to the reward and `later` to the discounted rest; `single` networks fit the classical target.
"""

from typing import cast

import torch
from torch import Tensor

from qurate.algorithms import value_learning as td
from qurate.algorithms.catalogue_losses import behaviour_terms, log_sum_exp_gap, unchosen_squared
from qurate.algorithms.objective import Loss, Networks, TensorBatch, first_transitions, of_action
from qurate.networks.catalogue_values import CatalogueValues
from qurate.networks.item_tower import ItemTable
from qurate.networks.values import ActionValues, BoundNetwork
from qurate.settings import ConservativeSettings, Settings
from qurate.types import OpenActions

LATER_SHARE, LATER_ROWS = 8, 32
"""On organic logs the long-term TD loss uses 1/8 of the rows and no more than 32, each with as much more weight."""


def dqn(networks: Networks, batch: TensorBatch, rng: torch.Generator, *, settings: Settings, organic: bool = False) -> Loss:
    """The loss of B transitions.

    Args:
        organic: the log says what customers chose: unchosen items get targets with reward 0 (`unchosen_squared`).
    """
    s, offline, net = settings.learning, settings.offline, networks.online
    online = net.bind(rng)
    values = online(batch.state)
    q_tm1 = values.by_head(batch.action[:, None], of_action(batch))[:, 0]  # [B, H]
    weight = head_weights(batch, net.n_components, net.form, s.later_weight, organic)
    targets, counted, q_t = td_targets(networks, online, batch, settings, organic)
    error = (targets - q_tm1) * counted
    terms = [(td.error_loss(error, s.loss) * weight).sum(1)]
    if organic and offline.negatives:
        target = stay_target(networks, online, batch, settings, organic)
        unchosen = unchosen_errors(cast(CatalogueValues, values), batch, q_tm1, target, rng, settings)
        terms.append(offline.negatives * (unchosen * weight).sum(1))
    terms += behaviour_terms(values, batch, rng, offline.aux_weight)
    if isinstance(settings.algorithm, ConservativeSettings) and settings.algorithm.cql_alpha > 0:
        terms.append(settings.algorithm.cql_alpha * log_sum_exp_gap(cast(CatalogueValues, values), batch, rng))
    stats = {"q": q_tm1.detach().sum(1).mean(), "q_max": q_t.abs().max()}
    return Loss(tuple(terms), error.detach().sum(1), stats)


def head_weights(batch: TensorBatch, components: int, form: str, later_weight: float, organic: bool) -> Tensor:
    """How much each row's error counts in each head, [B, H].

    `later` counts `later_weight` times: its errors are those of a whole visit, and their gradients on the shared item tower
    would be many times larger than those of `now`. On organic logs only some rows learn `later` (`later_rows`), each with
    more weight: the maximum over the whole catalogue, twice per row, would otherwise cost more than the rest of an update.
    """
    rows = len(batch.action)
    weights = batch.reward.new_ones(rows, components * (2 if form == "now_later" else 1))
    if form == "now_later":
        some = later_rows(rows, form, organic)
        weights[:, components:] = 0
        weights[:some, components:] = later_weight * rows / some
    return weights


def later_rows(rows: int, form: str, organic: bool) -> int:
    """The first so many rows of a batch bootstrap."""
    return min(max(rows // LATER_SHARE, 1), LATER_ROWS) if organic and form == "now_later" else rows


@torch.no_grad()
def td_targets(
    networks: Networks, online: BoundNetwork, batch: TensorBatch, settings: Settings, organic: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Targets [B, H] of the heads, which of them count [B, H], and Q of the successor [B]."""
    net, q_t = networks.online, torch.zeros_like(batch.reward)
    if settings.learning.gamma > 0:
        some = later_rows(len(batch.action), net.form, organic)
        q_t[:some] = next_values(networks, online, first_transitions(batch, some), settings)
    discount, bootstrap = batch.discount[:, None], batch.bootstrap[:, None]
    if net.form == "single":
        targets = td.q_target(batch.reward + batch.later_reward, discount, q_t)
        return targets, bootstrap.expand_as(targets), q_t.sum(1)
    return *td.now_later_targets(batch.reward, batch.later_reward, discount, q_t, bootstrap), q_t.sum(1)


@torch.no_grad()
def next_values(networks: Networks, online: BoundNetwork, batch: TensorBatch, settings: Settings) -> Tensor:
    """Q of the successor by component, [B, R]: one common a* = argmax of the weighted sum, inside the support.

    0 where nothing could be shown.
    """
    values = networks.target(batch.next_state)
    picker = online(batch.next_state) if settings.learning.double else values
    best = picker.best(batch.next_actions, settings.offline.support_threshold)
    features = features_of(batch.next_actions, best)
    return component_values(values, best, networks.online.n_components, features) * (best > 0)[:, None]


def features_of(open_actions: OpenActions[Tensor], action: Tensor) -> Tensor | None:
    """Features of one action per state, [B, F], where they stand on its list; NaN (not known) where there is no list."""
    candidates, features = open_actions.candidates, open_actions.features
    if candidates is None or features is None:
        return None
    place = (candidates == action[:, None]).to(torch.uint8).argmax(1)
    found = features[torch.arange(len(action), device=action.device), place]
    return found.masked_fill((candidates == 0).all(1, keepdim=True), float("nan"))


def component_values(values: ActionValues, action: Tensor, components: int, features: Tensor | None = None) -> Tensor:
    """Q of one action per state by component, [B, R], now and later together; action int64 [B], its features [B, F]."""
    by_head = values.by_head(action[:, None], None if features is None else features[:, None])[:, 0]
    return by_head.view(len(action), -1, components).sum(1)


@torch.no_grad()
def stay_target(networks: Networks, online: BoundNetwork, batch: TensorBatch, settings: Settings, organic: bool) -> Tensor:
    """Target of an item nobody chose, [B, H]: r = 0, s' = s, so gamma max Q(s, .) in the last R heads."""
    net, rows = networks.online, len(batch.action)
    target = batch.reward.new_zeros(rows, net.n_components * (2 if net.form == "now_later" else 1))
    if settings.learning.gamma > 0:
        some = later_rows(rows, net.form, organic)
        now = first_transitions(batch, some)
        stay = now._replace(next_state=now.state, next_actions=now.next_actions._replace(candidates=None, features=None))
        target[:some, -net.n_components :] = settings.learning.gamma * next_values(networks, online, stay, settings)
    return target


def unchosen_errors(
    values: CatalogueValues, batch: TensorBatch, q_tm1: Tensor, target: Tensor, rng: torch.Generator, settings: Settings
) -> Tensor:
    """Mean loss of the items nobody chose, per head, [B, H]: exact for the squared loss, sampled for Huber's and where only
    touched rows are trained."""
    if settings.learning.loss == "squared" and isinstance(values.table, ItemTable):
        return unchosen_squared(values, q_tm1, target)
    n = settings.offline.negatives
    items = torch.randint(1, values.n_items + 1, (n,), generator=rng, device=target.device)
    error = values.by_head(items.expand(len(target), -1)) - target[:, None]
    unchosen = (items[None] != batch.action[:, None])[:, :, None]
    return (td.error_loss(error, settings.learning.loss) * unchosen).sum(1) / n
