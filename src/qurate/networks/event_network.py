"""Rewards of the next step as expected events: `now` from models of what a customer does.

A component that only ever follows another one (a cart a click, a purchase a cart) is modelled given it:

    now_i(s, a) = amount_i(s, a) * P(i | parent of i, s, a) * P(parent of i | its parent, s, a) * ...

Each factor is a logistic regression on the same encoder (`algorithms/event_models.py` has the loss and finds the parents), with a term
for what the customer did with the item's categories (`category_terms.py`). A rare
event is then estimated given the frequent ones before it (entire-space models, Ma et al. 2018, arXiv:1804.07931);
regressed on its own by squared error it is mostly noise.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.catalogue_values import CatalogueValues
from qurate.networks.category_terms import CategoryTerms
from qurate.networks.dense_network import best_of
from qurate.networks.values import StateTensors
from qurate.types import OpenActions

CELLS = 1 << 15
"""Items times states whose heads are all held at a time: they stay in the cache."""


class EventNetwork(nn.Module):
    """A catalogue network whose heads are R logits of events and R amounts, in units of each amount's own spread.

    Args:
        heads: single form, 2 R heads, without a behaviour head.
        categories: of 2 R heads; None: the items have no categories.

    The buffers come from the log: `chain` [R, R] is 1 where component j is i itself or happens before it, `amount` and `spread`
    [R] are mean and standard deviation of the weighted reward where the event happened.
    """

    form = "single"

    def __init__(self, heads: CatalogueNetwork, categories: CategoryTerms | None = None) -> None:
        super().__init__()
        self.heads, self.categories, self.n_components = heads, categories, heads.n_heads // 2
        self.register_buffer("chain", torch.eye(self.n_components))
        self.register_buffer("amount", torch.ones(self.n_components))
        self.register_buffer("spread", torch.zeros(self.n_components))

    def bind(self, rng: torch.Generator | None = None) -> Callable[[StateTensors], "EventValues"]:
        """See `ValueNetwork.bind`."""
        bound, categories = self.heads.bind(rng), self.categories
        return lambda state: EventValues(bound(state), self, None if categories is None else categories(state))


class EventValues:
    """`ActionValues` of B states: the expected weighted reward of the next step, one head per component.

    Args:
        raw: logits and amounts.
        network: whose `chain`, `amount` and `spread` make rewards of them.
        terms: float32 [B, C, 2 R] of the categories; None = there are none.
    """

    def __init__(self, raw: CatalogueValues, network: EventNetwork, terms: Tensor | None = None) -> None:
        self.raw, self.network, self.terms, self.n_items = raw, network, terms, raw.n_items

    def heads(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Logits and amounts, float32 [B, K, 2 R], of items [B, K] with features [B, K, F]; None = those of the mean candidate."""
        heads = self.raw.by_head(actions, features)
        if self.network.categories is None or self.terms is None:
            return heads
        return heads + self.network.categories.of(self.terms, actions)

    def by_head(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """float32 [B, K, R] for items [B, K] with features [B, K, F]."""
        heads = self.heads(actions, features)
        chain, amount, spread = (self.network.get_buffer(name) for name in ("chain", "amount", "spread"))
        logits, sizes = torch.split_with_sizes(heads, [self.network.n_components] * 2, 2)
        chance = torch.exp(nn.functional.logsigmoid(logits) @ chain.T)
        return chance * (amount + spread * sizes if bool(spread.any()) else amount)

    def of(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """The sum over the components, float32 [B, K]."""
        return self.by_head(actions, features).sum(2)

    def all(self) -> Tensor:
        """The sum over the components of every item, with the features of the mean candidate, float32 [B, N + 1].

        Items are the last axis of everything that is written out, and amounts that are always the same are not computed.
        """
        chain, amount, spread = (self.network.get_buffer(name) for name in ("chain", "amount", "spread"))
        varying = torch.nonzero(spread)[:, 0]
        events = self.network.n_components
        which = torch.cat([torch.arange(events, device=spread.device), events + varying])
        states, items = self.raw.factors(which)
        if self.network.categories is not None and self.terms is not None:
            states = torch.cat([states, self.terms[:, :, which].transpose(1, 2)], dim=2)
            items = torch.cat([items, self.network.categories.get_buffer("share")], dim=1)
        of_mean = None if self.raw.candidate is None else self.raw.candidate(None)[which][:, None]
        now = states.new_empty(len(states), len(items))
        at_once = max(1, CELLS // len(items))
        for start in range(0, len(states), at_once):
            some = slice(start, start + at_once)
            heads = self.raw.add_repeats(states[some] @ items.T, which, some)
            heads = heads if of_mean is None else heads.add_(of_mean)
            chance = torch.exp(chain @ nn.functional.logsigmoid(heads[:, :events]))
            now[some] = amount @ chance
            if len(varying):
                now[some] += (spread[varying, None] * heads[:, events:] * chance[:, varying]).sum(1)
        return now

    def best(self, open_actions: OpenActions[Tensor], support: float = 0.0) -> Tensor:
        """See `ActionValues.best`; there is no behaviour head."""
        return best_of(self.all(), open_actions)
