"""The learner's arithmetic as one flat function over a dictionary of tensors: what an update costs without our classes.

Written out once more on purpose: same views of the history, layers, heads, targets inside the support, losses,
clipping, fused Adam, soft target and averaged weights as `Learner` with the mean encoder, the now-and-later form and
squared loss on a log of what was shown. `first_losses_agree` holds it to that.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from qurate.learning.learner import Learner
from qurate.networks.qnetwork import STRIDE
from qurate.settings import Settings
from qurate.types import SESSION_GAP_US, Batch, State

Parameters = dict[str, Tensor]


def bare_learner(learner: Learner, seed: int) -> Callable[[Batch], Tensor]:
    """A function that does what `learner.update` does, from the same first weights, and returns the loss.

    Args:
        learner: fresh; it is only read.
        seed: of the id dropout; the learner's own, where the two are to agree.
    """
    s = learner.settings
    features = learner.network.tower.get_buffer("features")
    online: Parameters = {name: value.clone().requires_grad_() for name, value in learner.network.state_dict().items()}
    target: Parameters = {name: value.detach().clone() for name, value in online.items()}
    average: Parameters = {name: value.detach().clone() for name, value in online.items()}
    adam = torch.optim.Adam(list(online.values()), lr=s.lr, fused=True)
    generator, updates = torch.Generator().manual_seed(seed), 0
    everything, targets, averages = list(online.values()), list(target.values()), list(average.values())

    def update(batch: Batch) -> Tensor:
        nonlocal updates
        loss = _loss(online, target, features, s, batch, generator)
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(everything, 10.0)
        adam.step()
        updates += 1
        torch._foreach_lerp_(targets, everything, s.target_tau)
        torch._foreach_lerp_(averages, everything, 1 - min(s.ema, updates / (updates + 10)))
        return loss.detach()

    return update


def _table(p: Parameters, features: Tensor, dropout: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Item vectors [N + 1, d], and centred with their biases [N + 1, d + H + 1]."""
    rows, dim = p["tower.ids"].shape
    hidden = torch.relu(F.linear(features, p["tower.from_features.0.weight"], p["tower.from_features.0.bias"]))
    own = torch.cat([p["tower.ids"], p["tower.id_bias"]], 1)
    if generator is not None:
        own = own * (torch.rand(rows, 1, generator=generator) >= dropout)
    real = torch.ones(rows, 1)
    real[0] = 0
    out = (F.linear(hidden, p["tower.from_features.2.weight"]) + own) * real
    return out[:, :dim].contiguous(), (out + out.sum(0, keepdim=True) * (-1 / (rows - 1))) * real


def _heads(p: Parameters, state: State, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values [B, 2R], directions [B, 2R, d], the behaviour head's direction [B, d], and repeats of all heads [B, 2R + 1, L]."""
    items, types, gaps, values, user, context = (torch.from_numpy(part) for part in state)
    batch, length = items.shape
    dim = vectors.shape[1]
    kinds = (p["match"].shape[1] - 1) // 3
    place = torch.arange(1, length + 1)
    decay = torch.exp(-torch.exp(p["views.log_rates"])[:, None] * (length - place))
    visit = place > torch.where(gaps >= SESSION_GAP_US / 1e6, place, 0).amax(1, keepdim=True)
    of_type = (types[:, None] == torch.arange(1, kinds + 1)[:, None]).float()
    scaled = torch.sign(values) * torch.log1p(values.abs()) * (types > 0) / length
    weights = torch.cat([of_type * decay[0], of_type * decay[1], of_type * (visit * 0.2)[:, None], scaled[:, None]], 1)
    sums = torch.bmm(weights, vectors.index_select(0, items.reshape(-1)).view(batch, length, dim)) * p["views.scale"]
    matched = torch.bmm(p["match"].expand(batch, -1, -1), sums)
    counts = weights.sum(2)
    hidden, ahead = (_layers(p, name, sums, counts, user, context) for name in ("encoder", "later_encoder"))
    z = torch.cat([hidden, user, context], 1)
    now = F.linear(z, p["direction.weight"], p["direction.bias"]).view(batch, -1, dim)
    later = F.linear(torch.cat([ahead, user, context], 1), p["later_direction.weight"], p["later_direction.bias"]).view(batch, -1, dim)
    behaviour = F.linear(z, p["behaviour.weight"], p["behaviour.bias"]) + matched[:, -1]
    value = [F.linear(hidden, p["value.weight"], p["value.bias"]), F.linear(ahead, p["later_value.weight"], p["later_value.bias"])]
    repeat = torch.bmm((p["repeat"] * STRIDE).expand(batch, -1, -1), weights)
    return torch.cat(value, 1), torch.cat([now, later], 1) + matched[:, :-1], behaviour, repeat


def _layers(p: Parameters, name: str, sums: Tensor, counts: Tensor, user: Tensor, context: Tensor) -> Tensor:
    x = torch.cat([F.linear(sums, p[f"{name}.narrow.weight"]).flatten(1), counts, user, context], 1)
    for i in (0, 2):
        x = torch.relu(F.linear(x, p[f"{name}.layers.{i}.weight"], p[f"{name}.layers.{i}.bias"]))
    return x


def _again(repeat: Tensor, items: Tensor, action: Tensor) -> Tensor:
    """What repeating brings one item per row, [B, H] from [B, H, L]."""
    return torch.bmm(repeat, (items == action[:, None]).float()[:, :, None])[:, :, 0]


def _loss(p: Parameters, target: Parameters, features: Tensor, s: Settings, batch: Batch, generator: torch.Generator) -> Tensor:
    vectors, centred = _table(p, features, s.id_dropout, generator)
    value, direction, behaviour, repeat = _heads(p, batch.state, vectors)
    heads, dim = direction.shape[1:]
    action, window = torch.from_numpy(batch.action), torch.from_numpy(batch.state.history_items).long()
    row = centred[action]
    q = (direction @ row[:, :dim, None])[:, :, 0] + value + row[:, dim : dim + heads] + _again(repeat[:, :-1], window, action)
    only_last = torch.zeros(len(q), heads + 1)
    only_last[:, -1] = 1
    with torch.no_grad():
        their_vectors, their_centred = _table(target, features, 0.0, None)
        their_value, their_direction, support, their_repeat = _heads(target, batch.next_state, their_vectors)
        pick, again, picking = their_direction, their_repeat, their_centred
        if s.double:
            picking = centred
            _, pick, support, again = _heads(p, batch.next_state, vectors)
        after = torch.from_numpy(batch.next_state.history_items).long()
        scores = (torch.cat([pick.sum(1), 1 - only_last], 1) @ picking.T).scatter_add_(1, after, again[:, :-1].sum(1))[:, 1:]
        logits = (torch.cat([support, only_last], 1) @ picking.T).scatter_add_(1, after, again[:, -1])[:, 1:]
        scores = scores.masked_fill(logits < logits.amax(1, keepdim=True) + math.log(s.support_threshold), -1e30)
        best = scores.argmax(1) + 1
        row = their_centred[best]
        following = (their_direction @ row[:, :dim, None])[:, :, 0] + their_value + row[:, dim : dim + heads]
        following = (following + _again(their_repeat[:, :-1], after, best)).view(len(q), 2, -1).sum(1)
        later = torch.from_numpy(batch.later_reward) + torch.from_numpy(batch.discount)[:, None] * following
        wanted = torch.cat([torch.from_numpy(batch.reward), later], 1)
        counts = torch.cat([torch.ones_like(later), torch.from_numpy(batch.bootstrap)[:, None].expand_as(later)], 1)
        weights = torch.cat([torch.ones_like(later), torch.full_like(later, s.later_weight)], 1)
    error = (((wanted - q) * counts).square() * weights).sum(1).mean() * 0.5
    logits = (torch.cat([behaviour, only_last], 1) @ centred.T).scatter_add(1, window, repeat[:, -1])
    return error + s.aux_weight * F.cross_entropy(logits[:, 1:], action - 1)


def first_losses_agree(learner: Learner, bare: Callable[[Batch], Tensor], batches: Sequence[Batch]) -> bool:
    """Whether both, from the same first weights and seed, find the same losses on a few batches (to 0.1 %)."""
    return all(math.isclose(learner.update(batch).loss, float(bare(batch)), rel_tol=1e-3) for batch in batches)
