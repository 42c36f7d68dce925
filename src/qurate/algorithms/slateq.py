"""SlateQ (Ie et al. 2019, arXiv:1905.12767): Q-learning of slates by the values of their single items.

A customer chooses one item of the slate or nothing, and reward and successor depend on the slate only through what was chosen. Then the
value of a slate is the expected value of what is chosen of it (`networks/slates.py`), and the item-wise values obey (eq. 16 and 19)

    Q(s, i) = r + gamma Q(s', A'),  A' = the best slate of s' (q), or the one that was shown there (sarsa)

so only the value of what was chosen is updated. Choosing nothing is a choice like any other here, with a value of its own; with
`nothing_value` off it counts 0 and is not learned, as in the authors' published code (RecSim 0.2.4). The choice model is a
conditional logit, learned from what was chosen of the slates shown, by cross-entropy (weight `aux_weight`).
"""

from typing import cast

import torch
from torch import Tensor

from qurate.algorithms import value_learning as td
from qurate.algorithms.objective import Loss, Networks, TensorBatch
from qurate.networks.slate_network import SlateValues
from qurate.networks.slates import Choices, best_slate, slate_value
from qurate.settings import Settings, SlateSettings


def slateq(networks: Networks, batch: TensorBatch, rng: torch.Generator, *, settings: Settings, organic: bool = False) -> Loss:
    """The loss of B decisions with slates; `batch.action` is the item chosen, 0 = nothing, of `batch.shown` [B, k]."""
    s, own = settings.learning, slate_settings(settings)
    values = cast(SlateValues, networks.online.bind(rng)(batch.state))
    chosen = torch.where(batch.action > 0, batch.action, values.nothing[:, 0])
    q_tm1 = values.by_head(chosen[:, None])[:, 0]  # [B, R]
    q_t, known = next_slate_values(networks, batch, settings)
    targets = td.q_target(batch.reward + batch.later_reward, batch.discount[:, None], q_t)
    counted = batch.bootstrap * known
    if not own.nothing_value:
        counted = counted * (batch.action > 0)
    error = (targets - q_tm1) * counted[:, None]
    choice = choice_loss(values, batch)
    stats = {"q": q_tm1.detach().sum(1).mean(), "q_max": q_t.sum(1).abs().max(), "choice": choice.detach().mean()}
    return Loss((td.error_loss(error, s.loss).sum(1), settings.offline.aux_weight * choice), error.detach().sum(1), stats)


@torch.no_grad()
def next_slate_values(networks: Networks, batch: TensorBatch, settings: Settings) -> tuple[Tensor, Tensor]:
    """Q of the successor's slate by component, [B, R], and where it is known, float32 [B]: sarsa must have seen what was shown."""
    own = slate_settings(settings)
    values = cast(SlateValues, networks.target(batch.next_state))
    if own.slate_target == "sarsa":
        assert batch.next_shown is not None
        items = batch.next_shown
        known = ((items > 0).any(1) | (batch.discount == 0)).float()
    else:
        items, known = _candidates(batch, values), torch.ones_like(batch.discount)
    choices = values.choices(items)
    if own.slate_target == "q":
        at = best_slate(choices, own.slate_size, own.slate_optimiser)
        items, choices = items.gather(1, at), choices.at(at)
    by_head = values.by_head(torch.cat([items, values.nothing], dim=1))  # [B, k + 1, R]
    nothing = by_head[:, -1] * own.nothing_value
    parts = [Choices(choices.mass, by_head[:, :-1, r], choices.nothing_mass, nothing[:, r]) for r in range(by_head.shape[2])]
    return torch.stack([slate_value(part) for part in parts], dim=1), known


def choice_loss(values: SlateValues, batch: TensorBatch) -> Tensor:
    """-log P(what was chosen | s, slate shown), float32 [B]."""
    assert batch.shown is not None
    logits, nothing = values.logits(batch.shown)
    logits = logits.masked_fill(batch.shown == 0, -torch.inf)
    of_item = logits.masked_fill(batch.shown != batch.action[:, None], -torch.inf)  # several documents may be of the same item
    chosen = torch.where(batch.action > 0, torch.logsumexp(of_item, 1), nothing)
    return torch.logsumexp(torch.cat([logits, nothing[:, None]], dim=1), 1) - chosen


def slate_settings(settings: Settings) -> SlateSettings:
    """The part of the settings that only slateq has."""
    assert isinstance(settings.algorithm, SlateSettings)
    return settings.algorithm


def _candidates(batch: TensorBatch, values: SlateValues) -> Tensor:
    """Candidates of the successor, int64 [B, K]: its list, else what of the catalogue is open at its clock; 0 = no candidate."""
    o = batch.next_actions
    if o.candidates is not None:
        return o.candidates
    items = torch.arange(1, values.n_items + 1, device=batch.discount.device).expand(len(batch.discount), -1)
    if o.clock is None or o.since is None:
        return items
    clock = o.clock[:, None]
    closed = (o.since[1:] > clock) if o.until is None else (o.since[1:] > clock) | (o.until[1:] <= clock)
    return items.masked_fill(closed, 0)
