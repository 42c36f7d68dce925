"""One learner for the whole family: a variant is a row of settings (`variants.py`), not a class."""

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qurate.config import Settings
from qurate.mdp.types import Batch, State
from qurate.networks.encoders import to_tensors
from qurate.networks.items import ItemTable
from qurate.networks.qnetwork import Heads, QNetwork
from qurate.qlearning import td
from qurate.qlearning.select import best_item

FULL_SOFTMAX_ITEMS = 5_000
"""Above this catalogue size the behaviour head's softmax is sampled, with log-q correction."""
SOFTMAX_SAMPLES = 1_024
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
        slow = list(network.later_direction.parameters()) if network.later_direction is not None else []
        fast = [p for p in network.parameters() if all(p is not s for s in slow)]
        groups = [{"params": fast}] + ([{"params": slow, "lr": settings.lr / 3}] if slow else [])
        self.optimiser = torch.optim.Adam(groups, lr=settings.lr, fused=True)
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
        targets, in_td, q_next = self._targets(batch, table)
        error = (targets - q_tm1) * in_td
        per_row = td.error_loss(error, s.loss).sum(1)
        loss = (per_row if weights is None else per_row * weights).mean()
        if self.organic and s.negatives:
            loss = loss + self._negatives(batch, heads, table)
        if net.behaviour is not None and s.aux_weight > 0:
            loss = loss + s.aux_weight * self._behaviour_loss(heads, table, action[:, 0])
        stepped = self._step(loss)
        stats = {"q": float(q_tm1.detach().sum(1).mean()), "q_max": float(q_next.abs().max()), "stepped": float(stepped)}
        stats["alarm"] = float(stats["q_max"] > self.q_bound)
        return Update(float(loss.detach()), error.detach().sum(1), stats)

    @torch.no_grad()
    def _targets(self, batch: Batch, table: ItemTable) -> tuple[Tensor, Tensor, Tensor]:
        """Targets [B, H] of the heads, which of them count [B, H], and the successor's Q [B]."""
        net = self.network
        reward, later_reward = torch.as_tensor(batch.reward), torch.as_tensor(batch.later_reward)
        discount = torch.as_tensor(batch.discount)[:, None]
        next_by_component = torch.zeros_like(reward)
        if self.settings.gamma > 0:
            next_by_component = self.next_values(batch, table)
        bootstrap = torch.as_tensor(batch.bootstrap)[:, None]
        q_next = next_by_component.sum(1)
        if net.form == "single":
            targets = td.q_target(reward + later_reward, discount, next_by_component)
            return targets, bootstrap.expand_as(targets), q_next
        later = td.q_target(later_reward, discount, next_by_component)
        return torch.cat([reward, later], 1), torch.cat([torch.ones_like(later), bootstrap.expand_as(later)], 1), q_next

    def next_values(self, batch: Batch, table: ItemTable) -> Tensor:
        """Q of the successor by component, [B, R]: one common a* = argmax of the weighted sum, inside the support."""
        following = to_tensors(batch.next_state)
        target_table = self._target_items()
        target_heads = self.target.heads(following, target_table)
        picker, picker_heads, picker_table = self.target, target_heads, target_table
        if self.settings.double:
            picker, picker_table = self.network, table
            picker_heads = self.network.heads(following, table)
        if batch.next_candidates is None:
            best = self._best_in_catalogue(picker, picker_heads, picker_table, torch.as_tensor(batch.next_available))
        else:
            best = self._best_candidate(picker, picker_heads, picker_table, batch)
        by_head = self.target.by_head(target_heads, target_table, best[:, None])[:, 0]
        parts = by_head.view(len(best), -1, self.network.n_components)
        return parts.sum(1)

    def _best_in_catalogue(self, net: QNetwork, heads: Heads, table: ItemTable, available: Tensor) -> Tensor:
        """The state's value is the same for all items and stays out of the comparison."""
        behaviour = None if heads.behaviour is None else net.behaviour_direction(heads)
        return best_item(net.q_direction(heads), table.centred, available, behaviour, self.settings.support_threshold)

    def _best_candidate(self, net: QNetwork, heads: Heads, table: ItemTable, batch: Batch) -> Tensor:
        """Among explicit candidates. What was on an explicit list is inside the support by construction."""
        candidates = torch.as_tensor(batch.next_candidates)
        q = net.q(heads, table, candidates)
        best: Tensor = candidates.gather(1, td.masked_argmax(q, candidates > 0)[:, None])[:, 0]
        without = torch.nonzero((candidates > 0).sum(1) == 0)[:, 0]
        if len(without):
            rest = Heads(*(None if h is None else h[without] for h in heads))  # type: ignore[arg-type]
            best[without] = self._best_in_catalogue(net, rest, table, torch.as_tensor(batch.next_available)[without])
        return best

    def _negatives(self, batch: Batch, heads: Heads, table: ItemTable) -> Tensor:
        """Squared error of sampled items nobody chose: reward 0, and the customer stays in the state she was in.

        A quarter of the rows carries it: the value of staying costs a pass over the catalogue.
        """
        net, rows = self.network, max(len(batch.action) // 4, 1)
        items = torch.randint(1, table.vectors.shape[0], (self.settings.negatives,), generator=self.generator)
        q = net.by_head(Heads(heads.value[:rows], heads.direction[:rows], None), table, items.expand(rows, -1))
        target = torch.zeros(rows, 1, net.n_heads)
        if self.settings.gamma > 0:
            with torch.no_grad():
                stay = batch._replace(
                    next_state=first_rows(batch.state, rows), next_candidates=None, next_available=batch.next_available[:rows]
                )
                value = self.settings.gamma * self.next_values(stay, table)
            target[:, 0, -net.n_components :] = value
        unchosen = (items[None] != torch.as_tensor(batch.action[:rows])[:, None])[:, :, None]
        return (td.error_loss(q - target, self.settings.loss) * unchosen).sum((1, 2)).mean()

    def _behaviour_loss(self, heads: Heads, table: ItemTable, action: Tensor) -> Tensor:
        """Cross-entropy of what was shown (or chosen); sampled with log-q correction over large catalogues."""
        items = table.vectors.shape[0] - 1
        if items <= FULL_SOFTMAX_ITEMS:
            return torch.nn.functional.cross_entropy(self.network.behaviour_logits(heads, table)[:, 1:], action - 1)
        sample = torch.randint(1, items + 1, (SOFTMAX_SAMPLES,), generator=self.generator)
        negative = self.network.behaviour_logits(heads, table, sample) + float(np.log(items / SOFTMAX_SAMPLES))
        negative = negative.masked_fill(sample[None] == action[:, None], td.NEVER)
        positive = self.network.behaviour_logits(heads, table, action[:, None])
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
        """The inverse of `state`."""
        state = copy.deepcopy(state)
        for name in ("network", "target", "ema", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        self.updates, self.bad_steps, self._target_table = state["updates"], 0, None
