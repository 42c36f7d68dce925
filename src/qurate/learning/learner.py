"""One learner for the whole family: a variant is a row of settings (`variants.py`), not a class."""

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qurate.algorithms import value_learning as td
from qurate.networks.catalogue_max import MASKED_VALUE, best_item
from qurate.networks.encoders import to_tensors
from qurate.networks.item_tower import ItemTable
from qurate.networks.qnetwork import Heads, QNetwork, repeats
from qurate.settings import Settings
from qurate.types import Batch, State

FULL_SOFTMAX_ITEMS = 5_000
"""Above this catalogue size the behaviour head's softmax is sampled, with log-q correction."""
SOFTMAX_SAMPLES = 1_024
LATER_SHARE = 8
"""On organic logs one in so many rows of a batch learns `later`."""
BAD_STEPS_BEFORE_ROLLBACK = 10
SNAPSHOT_EVERY = 1_000


class Update(NamedTuple):
    """What one update gives back; nothing travels another way."""

    loss: float
    td_errors: Tensor  # [B], of the weighted sum
    stats: dict[str, float]


def first_rows(state: State, n: int) -> State:
    """The first n of B states."""
    items, types, gaps, values, user, context = state
    return State(items[:n], types[:n], gaps[:n], values[:n], user[:n], context[:n])


def first_transitions(batch: Batch, n: int) -> Batch:
    """The first n of B transitions."""
    if n == len(batch.action):
        return batch
    candidates = None if batch.next_candidates is None else batch.next_candidates[:n]
    return Batch(
        first_rows(batch.state, n), batch.action[:n], batch.reward[:n], batch.later_reward[:n], batch.discount[:n], batch.bootstrap[:n],
        first_rows(batch.next_state, n), candidates, batch.next_available[:n], batch.index[:n],
    )  # fmt: skip


class Learner:
    """Online, target and averaged network, the optimiser, and `update`.

    Args:
        network: the online network (is trained in place).
        settings: see `config.Settings`.
        q_bound: largest |Q| that rewards allow, for the alarm; infinite = unknown.
        organic: the log says what customers chose: unchosen items are sampled as negatives with reward 0 (SNQN,
            Xin et al. 2022, arXiv:2111.03474).
        seed: of id dropout and negatives.
    """

    def __init__(
        self, network: QNetwork, settings: Settings, *, q_bound: float = float("inf"), organic: bool = False, seed: int = 0
    ) -> None:
        self.network, self.settings, self.q_bound, self.organic = network, settings, q_bound, organic
        self.target, self.ema = copy.deepcopy(network), copy.deepcopy(network)
        for frozen in (self.target, self.ema):
            frozen.requires_grad_(False).eval()
        self.optimiser = torch.optim.Adam(network.parameters(), lr=settings.lr, fused=True)
        self.generator = torch.Generator().manual_seed(seed)
        self.updates = self.bad_steps = self.skipped = 0
        self._parameters: list[Tensor] = list(network.parameters())
        self._target_table: ItemTable | None = None
        self._good = self._snapshot()

    def update(self, batch: Batch, weights: Tensor | None = None) -> Update:
        """One gradient step on B transitions.

        Args:
            batch: see `mdp.types.Batch`; rewards are already weighted.
            weights: importance weights float32 [B] (prioritised replay), None = 1.
        """
        s, net = self.settings, self.network
        net.train()
        table = net.items(self.generator)
        heads = net.heads(to_tensors(batch.state), table)
        action = torch.as_tensor(batch.action)[:, None]
        q_tm1 = net.by_head(heads, table, action)[:, 0]  # [B, H]
        counts = self._counts(len(q_tm1))
        targets, in_td, q_next = self._targets(batch, table)
        error = (targets - q_tm1) * in_td
        per_row = (td.error_loss(error, s.loss) * counts).sum(1)
        loss = (per_row if weights is None else per_row * weights).mean()
        if self.organic and s.negatives:
            loss = loss + self._negatives(batch, heads, table, q_tm1, counts)
        if net.behaviour is not None and s.aux_weight > 0:
            loss = loss + s.aux_weight * self._behaviour_loss(heads, table, action[:, 0])
        stepped = self._step(loss)
        stats = {"q": float(q_tm1.detach().sum(1).mean()), "q_max": float(q_next.abs().max()), "stepped": float(stepped)}
        stats["alarm"] = float(stats["q_max"] > self.q_bound)
        return Update(float(loss.detach()), error.detach().sum(1), stats)

    def _counts(self, rows: int) -> Tensor:
        """How much each row's error counts in each head, [B, H].

        `later` counts `later_weight` times: its errors are those of a whole visit, and on the shared item tower they
        would drown what `now` learns from single rewards. On organic logs an eighth of the rows learns `later`, eight
        times as much each: the maximum over the whole catalogue, twice per row, would otherwise cost more than all the
        rest of an update.
        """
        net = self.network
        counts = torch.ones(rows, net.n_heads)
        if net.form == "now_later":
            some = max(rows // LATER_SHARE, 1) if self.organic else rows
            counts[:, net.n_components :] = 0
            counts[:some, net.n_components :] = self.settings.later_weight * rows / some
        return counts

    @torch.no_grad()
    def _targets(self, batch: Batch, table: ItemTable) -> tuple[Tensor, Tensor, Tensor]:
        """Targets [B, H] of the heads, which of them count [B, H], and the successor's Q [B]."""
        net = self.network
        reward, later_reward = torch.as_tensor(batch.reward), torch.as_tensor(batch.later_reward)
        discount = torch.as_tensor(batch.discount)[:, None]
        next_by_component = torch.zeros_like(reward)
        if self.settings.gamma > 0:
            some = int((self._counts(len(reward))[:, -1] > 0).sum())
            next_by_component[:some] = self.next_values(first_transitions(batch, some), table)
        bootstrap = torch.as_tensor(batch.bootstrap)[:, None]
        q_next = next_by_component.sum(1)
        if net.form == "single":
            targets = td.q_target(reward + later_reward, discount, next_by_component)
            return targets, bootstrap.expand_as(targets), q_next
        later = td.q_target(later_reward, discount, next_by_component)
        return torch.cat([reward, later], 1), torch.cat([torch.ones_like(later), bootstrap.expand_as(later)], 1), q_next

    def next_values(self, batch: Batch, table: ItemTable) -> Tensor:
        """Q of the successor by component, [B, R]: one common a* = argmax of the weighted sum, inside the support.

        It is 0 where nothing could be shown: all items were declared for a later time.
        """
        following = to_tensors(batch.next_state)
        target_table = self._target_items()
        target_heads = self.target.heads(following, target_table)
        picker, picker_heads, picker_table = self.target, target_heads, target_table
        available = torch.as_tensor(batch.next_available)
        if self.settings.double:
            picker, picker_table = self.network, table
            picker_heads = self.network.heads(following, table)
        if batch.next_candidates is None:
            best = self._best_in_catalogue(picker, picker_heads, picker_table, available.clamp(min=1))
        else:
            best = self._best_candidate(picker, picker_heads, picker_table, batch)
        by_head = self.target.by_head(target_heads, target_table, best[:, None])[:, 0]
        parts = by_head.view(len(best), -1, self.network.n_components).sum(1)
        if int(available.min()) > 0:
            return parts
        listed = 0 if batch.next_candidates is None else torch.as_tensor(batch.next_candidates).amax(1)
        return parts * ((available > 0) | (listed > 0))[:, None]

    def _best_in_catalogue(self, net: QNetwork, heads: Heads, table: ItemTable, available: Tensor) -> Tensor:
        """The state's value is the same for all items and stays out of the comparison."""
        behaviour = None if heads.behaviour is None else net.behaviour_scores(heads)
        return best_item(net.q_scores(heads), table.centred, available, behaviour, self.settings.support_threshold)

    def _best_candidate(self, net: QNetwork, heads: Heads, table: ItemTable, batch: Batch) -> Tensor:
        """Among explicit candidates. What was on an explicit list is inside the support by construction."""
        candidates = torch.as_tensor(batch.next_candidates)
        q = net.q(heads, table, candidates)
        best: Tensor = candidates.gather(1, td.masked_argmax(q, candidates > 0)[:, None])[:, 0]
        without = torch.nonzero((candidates > 0).sum(1) == 0)[:, 0]
        if len(without):
            rest = Heads(*(None if h is None else h[without] for h in heads))  # type: ignore[arg-type]
            best[without] = self._best_in_catalogue(net, rest, table, torch.as_tensor(batch.next_available)[without].clamp(min=1))
        return best

    def _negatives(self, batch: Batch, heads: Heads, table: ItemTable, q_tm1: Tensor, counts: Tensor) -> Tensor:
        """Squared error of items nobody chose: reward 0, and the customer stays in the state she was in.

        Q is linear in the item vectors and these are centred, so the mean square over the whole catalogue is a
        quadratic form in their Gram matrix (as in implicit ALS, Hu et al. 2008, doi:10.1109/ICDM.2008.22): it costs
        less than sampling and has no noise. It counts `negatives` times, as that many sampled items would.
        """
        net = self.network
        target = torch.zeros(len(q_tm1), net.n_heads)
        if self.settings.gamma > 0:
            some = int((counts[:, -1] > 0).sum())
            with torch.no_grad():
                now = first_transitions(batch, some)
                stay = now._replace(next_state=now.state, next_candidates=None)
                target[:some, -net.n_components :] = self.settings.gamma * self.next_values(stay, table)
        if self.settings.loss != "squared":
            items = torch.randint(1, table.vectors.shape[0], (self.settings.negatives,), generator=self.generator)
            error = net.by_head(heads, table, items.expand(len(target), -1)) - target[:, None]
            unchosen = (items[None] != torch.as_tensor(batch.action)[:, None])[:, :, None]
            return (td.error_loss(error, self.settings.loss) * unchosen * counts[:, None]).sum((1, 2)).mean()
        everything = td.error_loss(heads.value - target, "squared") + 0.5 * self._spread(heads, table, heads.value - target)
        chosen = td.error_loss(q_tm1 - target, "squared") / (table.vectors.shape[0] - 1)
        return self.settings.negatives * ((everything - chosen) * counts).sum(1).mean()

    def _spread(self, heads: Heads, table: ItemTable, off: Tensor) -> Tensor:
        """Mean over the catalogue of (off + x + r)^2 - off^2 by head, [B, H], where x is linear in the centred item rows
        and r is what repeating brings the few items of the window; `off` [B, H] is the same for all items."""
        net, items = self.network, table.vectors.shape[0] - 1
        gram = table.centred.T @ table.centred / items
        biases = torch.eye(net.n_heads, table.centred.shape[1] - net.dim).expand(len(off), -1, -1)
        direction = torch.cat([heads.direction, biases], dim=2)
        linear = ((direction @ gram) * direction).sum(2)
        there = torch.bmm(direction, table.centred[heads.history].transpose(1, 2))  # x of the window's items, [B, H, L]
        same = (heads.history[:, :, None] == heads.history[:, None]).float()
        repeat = heads.repeat * (heads.history > 0)[:, None]  # an event may name no item (a search): none of the catalogue's repeats
        twice = 2 * (off[:, :, None] + there) + torch.bmm(repeat, same)  # an item may stand there more than once
        return linear + (repeat * twice).sum(2) / items

    def _behaviour_loss(self, heads: Heads, table: ItemTable, action: Tensor) -> Tensor:
        """Cross-entropy of what was shown (or chosen); sampled with log-q correction over large catalogues."""
        items = table.vectors.shape[0] - 1
        if items <= FULL_SOFTMAX_ITEMS:
            return torch.nn.functional.cross_entropy(self.network.behaviour_logits(heads, table)[:, 1:], action - 1)
        sample = 1 + torch.randperm(items, generator=self.generator)[:SOFTMAX_SAMPLES]
        scores, action = self.network.behaviour_scores(heads), action[:, None]
        # one look-up for both: each would cost a gradient over the whole catalogue
        rows = table.centred.index_select(0, torch.cat([sample, action[:, 0]]))
        negative = scores.direction @ rows[: len(sample)].T
        place = torch.full((items + 1,), -1).scatter_(0, sample, torch.arange(len(sample)))[scores.history]
        negative = negative.scatter_add(1, place.clamp(min=0), scores.repeat * (place >= 0)) + float(np.log(items / SOFTMAX_SAMPLES))
        negative = negative.masked_fill(sample[None] == action, MASKED_VALUE)
        again = repeats(scores.repeat[:, None], scores.history, action)[:, :, 0]
        positive = (scores.direction * rows[len(sample) :]).sum(1, keepdim=True) + again
        return (torch.logsumexp(torch.cat([positive, negative], 1), 1) - positive[:, 0]).mean()

    def _target_items(self) -> ItemTable:
        if self._target_table is None:
            self._target_table = self.target.items()
        return self._target_table

    def _step(self, loss: Tensor) -> bool:
        """Gradient step, target and average; a non-finite loss or gradient is skipped and, when it stays, undone."""
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, 10.0)
        if not bool(torch.isfinite(loss)) or not bool(torch.isfinite(norm)):
            self.skipped += 1
            self.bad_steps += 1
            if self.bad_steps >= BAD_STEPS_BEFORE_ROLLBACK:
                self.load_state(self._good)
            return False
        self.optimiser.step()
        self.bad_steps = 0
        self.updates += 1
        s = self.settings
        if self.updates % s.target_period == 0:
            torch._foreach_lerp_(list(self.target.parameters()), self._parameters, s.target_tau)
            self._target_table = None
        decay = min(s.ema, self.updates / (self.updates + 10))  # early on, a long memory would keep the random start
        torch._foreach_lerp_(list(self.ema.parameters()), self._parameters, 1 - decay)
        if self.updates % SNAPSHOT_EVERY == 0:
            self._good = self._snapshot()
        return True

    def _snapshot(self) -> dict[str, Any]:
        return copy.deepcopy(self.state())

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on bit for bit: networks, optimiser, generator, counters."""
        return {
            "network": self.network.state_dict(), "target": self.target.state_dict(), "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(), "generator": self.generator.get_state(), "updates": self.updates,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; from now on this is the state to which a run that has gone wrong returns."""
        state, self._good = copy.deepcopy(state), copy.deepcopy(state)
        for name in ("network", "target", "ema", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        self.updates, self.bad_steps, self._target_table = state["updates"], 0, None
