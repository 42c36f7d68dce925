"""`later` with few weights: what an item changes afterwards, linear in a summary of the state and a few numbers of the item.

    later_i(s, a) = V_i(s) + w_i . x_a + now(s, a) (v_i + w'_i . x_a) + c(s, a) . (u_i + u'_i now(s, a))

V is linear in g(s): decayed sums of x over the window by event type and their counts, what the customer is known by, the
highest and the mean `now` of the catalogue, and the mean of the other terms over what is usually shown: where nearly everybody is
shown the same, its items would else stand for the customers. x_a are the item's numbers; c(s, a) says how much of what the
window holds is of the item's categories. `now` is the network's own (`event_network.py`), summed over the components.

From a log, what one item changes later is a small effect under the noise of whole visits. Thousands of weights fit that noise,
and the maximum over the catalogue picks it; these few dozen cannot. They are fitted by least squares (`learning/fitted_q.py`).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qurate.networks.catalogue_max import MASKED_VALUE
from qurate.networks.dense_network import best_of
from qurate.networks.event_network import EventNetwork, EventValues
from qurate.networks.values import StateTensors
from qurate.types import OpenActions

DECAYS = (0.95, 0.8)
"""Per event of the window: a long and a short memory, for the sums and for the categories."""
MAX_NUMBERS = 16
"""Numbers of an item that `later` sees; more (an embedding of a text) become their first principal components."""

FEW_ITEMS = 16
"""Catalogues of at most so many items: each item is its own number, whatever its features say."""


class Summary(NamedTuple):
    """The features of `later` that depend on the state alone."""

    state: Tensor  # [B, G] g(s)
    categories: Tensor  # [B, 2, C] decayed counts of each category in the window


class LinearLaterNetwork(nn.Module):
    """`now` from event models and `later` from a linear form; R heads of each.

    Args:
        now: of R components.
        item_features: float32 [N + 1, F], row 0 zeros. Columns of zeros and ones are categories, the others numbers.
        n_types: M event types. user_dim, context_dim: U and C.
    """

    form = "now_later"

    def __init__(self, now: EventNetwork, item_features: Tensor, *, n_types: int, user_dim: int, context_dim: int) -> None:
        super().__init__()
        self.now, self.n_components, self.n_types = now, now.n_components, n_types
        real = item_features[1:]
        binary = ((real == 0) | (real == 1)).all(0)
        categories = item_features[:, binary]
        self.register_buffer("numbers", few_items(len(real)) if len(real) <= FEW_ITEMS else principal(item_features[:, ~binary]))
        self.register_buffer("categories", categories / categories.sum(1, keepdim=True).clamp(min=1), persistent=False)
        n, k = self.get_buffer("numbers").shape[1], len(DECAYS)
        self.n_state = 1 + n_types * k * (n + 1) + user_dim + context_dim + 2 + 1 + n + 2 * k
        self.n_item = 2 * (n + 1) - 1 + 2 * k
        self.register_buffer("share", nn.functional.pad(torch.full((len(real),), 1 / len(real)), (1, 0)))
        self.register_buffer("theta", torch.zeros(self.n_state + self.n_item, self.n_components))

    def bind(self, rng: torch.Generator | None = None) -> Callable[[StateTensors], "LinearLaterValues"]:
        """See `ValueNetwork.bind`."""
        bound = self.now.bind(rng)
        return lambda state: LinearLaterValues(bound(state), state, self)

    def summary(self, state: StateTensors, now: Tensor) -> Summary:
        """Of B states, with `now` [B, N + 1] of the catalogue."""
        numbers, categories = self.get_buffer("numbers"), self.get_buffer("categories")
        items, types, device = state.history_items.long(), state.history_types, now.device
        back = torch.arange(items.shape[1] - 1, -1, -1, device=device)
        decay = torch.stack([rate**back for rate in DECAYS])  # [2, L]
        of_type = (types[:, None] == torch.arange(1, self.n_types + 1, device=device)[:, None]).float()
        weight = (of_type[:, :, None] * decay).flatten(1, 2)  # [B, 2 M, L]
        sums = torch.bmm(weight, numbers[items]).flatten(1)
        best, mean = now[:, 1:].amax(1, keepdim=True), now[:, 1:].mean(1, keepdim=True)
        counts = torch.bmm(decay * (types > 0)[:, None], categories[items])
        known = [torch.ones_like(best), sums, weight.sum(2), state.user, state.context, best, mean, self.usual(now, counts)]
        return Summary(torch.cat(known, dim=1), counts)

    def usual(self, now: Tensor, counts: Tensor) -> Tensor:
        """The mean of `item_features` over what is usually shown, without x itself, which is the same everywhere: [B, n + 1 + 2 k].

        Args:
            now: [B, N + 1] of the catalogue.
            counts: [B, k, C] of the categories.
        """
        share, categories = self.get_buffer("share"), self.get_buffer("categories")
        shown = now * share
        kept = (counts @ (shown @ categories)[:, :, None])[:, :, 0]
        return torch.cat([shown.sum(1, keepdim=True), shown @ self.get_buffer("numbers"), counts @ (share @ categories), kept], dim=1)

    def set_share(self, actions: Tensor) -> None:
        """What is usually shown, counted in actions int64 [T]."""
        count = torch.bincount(actions, minlength=len(self.get_buffer("share"))).float()
        count[0] = 0
        self.get_buffer("share").copy_(count / count.sum().clamp(min=1))

    def item_features(self, summary: Summary, actions: Tensor, now: Tensor) -> Tensor:
        """The part of the features that depends on the item, [B, K, D - G], of items [B, K] with their `now` [B, K]."""
        x, c = self.get_buffer("numbers")[actions], summary.categories @ self.get_buffer("categories")[actions].transpose(1, 2)
        n, c = now[:, :, None], c.transpose(1, 2)
        return torch.cat([x, n, n * x, c, n * c], dim=2)

    def later(self, summary: Summary, now: Tensor, weights: Tensor, items: Tensor) -> Tensor:
        """[B, N] of N items that all states share, int64 [N]: theta . features for one column `weights` [D], features not written out."""
        x, categories = self.get_buffer("numbers")[items], self.get_buffer("categories")[items]
        n, k = x.shape[1], len(DECAYS)
        value, w, v, w_now, u, u_now = torch.split_with_sizes(weights, [self.n_state, n, 1, n, k, k])
        count, count_now = (torch.einsum("bkc,k->bc", summary.categories, part) @ categories.T for part in (u, u_now))
        out: Tensor = (summary.state @ value)[:, None] + x @ w + count + now * (v + x @ w_now + count_now)
        return out


class LinearLaterValues:
    """`ActionValues` of B states: R heads of `now`, R of `later`."""

    def __init__(self, now: EventValues, state: StateTensors, network: LinearLaterNetwork) -> None:
        self.now, self.state, self.network = now, state, network
        self.now_all = now.all()
        self.summary = network.summary(state, self.now_all)

    def by_head(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """float32 [B, K, 2 R] for items [B, K] with features [B, K, F], by which their `now` differs."""
        now, theta = self.now.by_head(actions, features), self.network.get_buffer("theta")
        of_state, of_item = torch.split_with_sizes(theta, [self.network.n_state, self.network.n_item])
        later = self.network.item_features(self.summary, actions, now.sum(2)) @ of_item
        return torch.cat([now, later + (self.summary.state @ of_state)[:, None]], dim=2)

    def features(self, action: Tensor, now: Tensor | None = None) -> Tensor:
        """The features whose weights are theta, [B, D], of one item per state, int64 [B], whose `now` is [B]; None: the mean one's."""
        now = self.now.of(action[:, None]) if now is None else now[:, None]
        return torch.cat([self.summary.state, self.network.item_features(self.summary, action[:, None], now)[:, 0]], dim=1)

    def of(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """Q, float32 [B, K], of items [B, K] with features [B, K, F]."""
        return self.of_now(actions, self.now.of(actions, features))

    def of_now(self, actions: Tensor, now: Tensor) -> Tensor:
        """Q of items [B, K] whose `now` is known, float32 [B, K]."""
        of_state, of_item = torch.split_with_sizes(self.network.get_buffer("theta").sum(1), [self.network.n_state, self.network.n_item])
        later = self.network.item_features(self.summary, actions, now) @ of_item
        return now + later + (self.summary.state @ of_state)[:, None]

    def all(self) -> Tensor:
        """Q of the catalogue, float32 [B, N + 1]."""
        items = torch.arange(self.now.n_items + 1, device=self.now_all.device)
        weights = self.network.get_buffer("theta").sum(1)
        return self.now_all + self.network.later(self.summary, self.now_all, weights, items)

    def best(self, open_actions: OpenActions[Tensor], support: float = 0.0) -> Tensor:
        """See `ActionValues.best`; there is no behaviour head."""
        if open_actions.candidates is None or open_actions.features is None:
            return best_of(self.all(), open_actions)
        return self.best_listed(open_actions, self.now.by_head(open_actions.candidates, open_actions.features))[0]

    def best_listed(self, open_actions: OpenActions[Tensor], now: Tensor) -> tuple[Tensor, Tensor]:
        """The best item of each list, int64 [B], and its `now` [B, R], where that of all candidates is known, [B, K, R].

        A state without a list chooses from the catalogue.
        """
        listed = open_actions.candidates
        assert listed is not None
        q = self.of_now(listed, now.sum(2)).masked_fill(listed == 0, MASKED_VALUE)
        place = q.argmax(1, keepdim=True)
        best, of_best = listed.gather(1, place)[:, 0], now.gather(1, place[:, :, None].expand(-1, -1, now.shape[2]))[:, 0]
        without = best == 0
        if bool(without.any()):
            best = torch.where(without, best_of(self.all(), open_actions), best)
            of_best = torch.where(without[:, None], self.now.by_head(best[:, None])[:, 0], of_best)
        return best, of_best


def few_items(n: int) -> Tensor:
    """[n + 1, n], one number per item."""
    return nn.functional.pad(torch.eye(n), (0, 0, 1, 0))


def principal(numbers: Tensor) -> Tensor:
    """[N + 1, n] numbers of items as they are; more than MAX_NUMBERS as their first principal components, each of standard deviation 1.

    Row 0 stays zero.
    """
    if numbers.shape[1] <= MAX_NUMBERS:
        return numbers.contiguous()
    real = numbers[1:] - numbers[1:].mean(0)
    left, size, _ = torch.linalg.svd(real.double(), full_matrices=False)
    kept = left[:, :MAX_NUMBERS] * (size[:MAX_NUMBERS] > size[0] * 1e-6) * len(real) ** 0.5
    return nn.functional.pad(kept.float(), (0, 0, 1, 0)).contiguous()
