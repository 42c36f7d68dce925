"""Values of single items in a slate, and the customer's choice among them, for SlateQ (Ie et al. 2019, arXiv:1905.12767).

A network over the catalogue with one item more, "nothing": its heads give Q(s, i) for an item given that it is chosen, and its behaviour
head the logits v(s, i) of the choice model, where that is not the world's own.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.catalogue_values import CatalogueValues
from qurate.networks.slates import Choices, SlateRules, masses, slate_scores
from qurate.networks.values import StateTensors
from qurate.types import OpenActions

LEAST_MASS = 1e-6
"""Of an item that nobody chooses: it stays a candidate."""


class SlateNetwork(nn.Module):
    """Q of items given that they are chosen, and the choice model.

    Args:
        items: over N + 1 items, the last one is "nothing"; heads are the reward components (single form), with a behaviour head.
        rules: how slates are chosen.
        user_dim: U.
    """

    form = "single"

    def __init__(self, items: CatalogueNetwork, rules: SlateRules, user_dim: int) -> None:
        super().__init__()
        rows = items.tower.get_buffer("features").shape[0]
        self.register_buffer("affinity", torch.zeros(rows, user_dim))  # of the world's own choice model, with a bias in the next
        self.register_buffer("mass", torch.zeros(rows))
        self.items, self.rules, self.n_components = items, rules, items.n_components

    def bind(self, rng: torch.Generator | None = None) -> "Callable[[StateTensors], SlateValues]":
        """See `ValueNetwork.bind`."""
        items = self.items.bind(rng)
        return lambda state: SlateValues(items(state), self.rules, self._known(state))

    @torch.no_grad()
    def know(self, affinity: Tensor, least: float, nothing: float) -> None:
        """Takes a choice model over: masses affinity [N + 1, U] . user + least for items, `nothing` for choosing nothing."""
        self.get_buffer("affinity")[:-1].copy_(affinity)
        self.get_buffer("mass").fill_(least)[-1] = nothing

    def _known(self, state: StateTensors) -> Tensor | None:
        """Logits [B, N + 2] of the world's own choice model."""
        if not self.rules.known_choice:
            return None
        return torch.log((state.user @ self.get_buffer("affinity").T + self.get_buffer("mass")).clamp(min=LEAST_MASS))


class SlateValues:
    """`ActionValues` of B states: Q of items 1..N given that they are chosen; and what is chosen of a slate.

    Args:
        items: values of N + 1 items.
        rules: how slates are chosen.
        known: logits [B, N + 2] of a choice model that is not the behaviour head's.
    """

    def __init__(self, items: CatalogueValues, rules: SlateRules, known: Tensor | None = None) -> None:
        self.items, self.rules, self.known = items, rules, known
        self.n_items = items.n_items - 1

    @property
    def nothing(self) -> Tensor:
        """The index N + 1 of "nothing" for each state, int64 [B, 1]."""
        value = self.items.heads.value
        return torch.full((len(value), 1), self.n_items + 1, device=value.device)

    def by_head(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """See `ActionValues`; actions may be "nothing"."""
        return self.items.by_head(actions)

    def of(self, actions: Tensor, features: Tensor | None = None) -> Tensor:
        """See `ActionValues`; actions may be "nothing"."""
        return self.items.of(actions)

    def all(self) -> Tensor:
        """See `ActionValues`: without "nothing"."""
        return self.items.all()[:, :-1]

    def best(self, open_actions: OpenActions[Tensor], support: float = 0.0) -> Tensor:
        """The candidate of the largest Q given that it is chosen, see `ActionValues`; slates are chosen by `slate_scores`."""
        listed = open_actions.candidates
        if listed is None:
            return self.all()[:, 1:].argmax(1) + 1
        return listed.gather(1, self.of(listed).masked_fill(listed == 0, -torch.inf).argmax(1, keepdim=True))[:, 0]

    def logits(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Of the choice model: float32 [B, K] for items [B, K], and [B] for nothing."""
        every = torch.cat([actions, self.nothing], dim=1)
        both = self.items.behaviour_logits(every) if self.known is None else self.known.gather(1, every)
        return both[:, :-1], both[:, -1]

    def choices(self, items: Tensor) -> Choices:
        """What the customers may choose among items [B, K] (0 = no candidate), Q summed over the components."""
        mass, nothing_mass = masses(*self.logits(items), closed=items == 0)
        value = self.of(torch.cat([items, self.nothing], dim=1))
        return Choices(mass, value[:, :-1], nothing_mass, value[:, -1] * self.rules.nothing_value)

    def slate_scores(self, items: Tensor) -> Tensor:
        """Scores [B, K] of the candidates `items` whose k largest are the slate to show; -inf where there is none."""
        return slate_scores(self.choices(items), self.rules.size, self.rules.optimiser)
