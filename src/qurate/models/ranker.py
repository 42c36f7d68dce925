"""What orders candidates: the one interface of trained models, and its implementations.

A new kind of ranker (a dense network for Gymnasium tasks) is a class here with the methods of `Ranker`, and a case in
`load_ranker`.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from qurate.baselines.registry import FITTED
from qurate.baselines.saved import scorer_from_saved, scorer_to_saved
from qurate.choosing.slate_sampling import is_shared
from qurate.networks.build import build_network
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.catalogue_values import CatalogueValues
from qurate.networks.distributional_values import DistributionalNetwork, DistributionalValues
from qurate.networks.values import ActionValues, BoundNetwork, ValueNetwork, to_tensors
from qurate.settings import Settings
from qurate.types import FloatArray, IntArray, Observation, Scorer, State

RankingScore = Literal["q", "q_in_support", "behaviour", "score"]
"""Which score ranks: Q alone; Q inside the support of the log's policy, then the rest; the behaviour head; a baseline's own."""


class SavedRanker(NamedTuple):
    """A ranker as it is written to a model directory."""

    config: dict[str, Any]  # JSON-able
    arrays: dict[str, NDArray[Any]]


class Sizes(NamedTuple):
    """What a ranker has in common with the model's other parts."""

    n_types: int  # M event types
    user_dim: int  # U encoded user features
    n_components: int  # R reward components


class Ranker(Protocol):
    """Scores the candidates of customers. It does not change after training, so that what it computes once it may keep."""

    @property
    def by(self) -> RankingScore:
        """Which score decides the order."""
        ...

    @property
    def ranking_scores(self) -> list[RankingScore]:
        """The scores it can rank by."""
        ...

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K] of the observation's candidates: higher is shown first."""
        ...

    def values(self, observation: Observation, listed: bool | None = None) -> tuple[FloatArray, FloatArray]:
        """What the candidates are worth, and the score by which they rank: float32 [B, K] each.

        Args:
            listed: whether the candidates are explicit lists; by default they are where each row brings its own.
        """
        ...

    def explain(self, state: State, items: IntArray) -> FloatArray | None:
        """What items [B, K] are worth now and later, by component: float32 [B, K, 2, R] in weighted reward units.

        `now` is NaN where it is not separate from `later`; None from a ranker that does not estimate rewards.
        """
        ...

    def saved(self) -> SavedRanker:
        """What `load_ranker` needs to make it again."""
        ...


@dataclass(frozen=True, eq=False)
class NetworkRanker:
    """A Q-network over a catalogue, or a table of Q-values.

    Attributes:
        network: not trained any further. What does not depend on the state (an item table) is computed once, by the first call.
        item_features: float32 [N + 1, F] of the catalogue it was built for.
        by: which score decides the order.
        support_threshold: least pi_b(a) / max pi_b(.) of an item inside the support.
        candidate_lists_in_support: training met explicit lists, on which everything is inside the support by construction.
    """

    network: ValueNetwork
    item_features: FloatArray
    by: RankingScore = "q"
    support_threshold: float = 0.0
    candidate_lists_in_support: bool = False

    def __post_init__(self) -> None:
        for parameter in self.module.parameters():
            parameter.detach_()  # without the history of how it was averaged
        self.module.requires_grad_(False).eval()

    @property
    def module(self) -> nn.Module:
        """The network, as a module."""
        return cast(nn.Module, self.network)

    @property
    def has_behaviour(self) -> bool:
        """Whether it has a behaviour head."""
        inner = self.module.logits if isinstance(self.module, DistributionalNetwork) else self.module
        return isinstance(inner, CatalogueNetwork) and inner.behaviour is not None

    @property
    def ranking_scores(self) -> list[RankingScore]:
        """See `Ranker`."""
        return ["q", "q_in_support", "behaviour"] if self.has_behaviour else ["q"]

    def ranked_by(self, by: RankingScore) -> "NetworkRanker":
        """The same network, ranking by another score."""
        return replace(self, by=by)

    @cached_property
    def _bound(self) -> BoundNetwork:
        with torch.no_grad():
            return self.network.bind()

    def action_values(self, state: State) -> ActionValues:
        """Values of the catalogue for B states."""
        with torch.no_grad():
            return self._bound(to_tensors(state))

    def scores(self, observation: Observation) -> FloatArray:
        """See `Ranker`."""
        return self.values(observation)[1]

    @torch.inference_mode()
    def values(self, observation: Observation, listed: bool | None = None) -> tuple[FloatArray, FloatArray]:
        """See `Ranker`: worth and score are the same, but for the support.

        Candidates that all rows share cost one matrix product.
        """
        candidates, mask, _ = observation.actions
        listed = candidates.strides[0] != 0 if listed is None else listed
        values, inside = self.action_values(observation.state), None
        shared = candidates[0] if is_shared(candidates) else None
        items = None if shared is not None else to_tensors(candidates)
        if self.by == "behaviour":
            worth = _behaviour_logits(values, items)
        else:
            worth = (values.all() if items is None else values.of(items)).numpy()
        if self.by == "q_in_support" and not (listed and self.candidate_lists_in_support):
            inside = _behaviour_logits(values, items)
        worth = _columns(worth, shared)
        if inside is None:
            return worth, worth
        return worth, supported_first(worth, _columns(inside, shared), mask, self.support_threshold)

    @torch.no_grad()
    def explain(self, state: State, items: IntArray) -> FloatArray | None:
        """See `Ranker`: Q by head. In the single-head form everything is `later`; None where heads are no components."""
        values = self.action_values(state)
        if not isinstance(values, CatalogueValues):
            return None
        by_head = values.by_head(to_tensors(items)).numpy()
        if self.network.form == "single":
            by_head = np.concatenate([np.full_like(by_head, np.nan), by_head], axis=2)
        return cast(FloatArray, by_head.reshape(*items.shape, 2, self.network.n_components))

    def saved(self) -> SavedRanker:
        """See `Ranker`."""
        config = {
            "by": self.by,
            "support_threshold": self.support_threshold,
            "candidate_lists_in_support": self.candidate_lists_in_support,
            "behaviour": self.has_behaviour,
        }
        arrays = {f"network.{name}": value.contiguous().numpy() for name, value in self.module.state_dict().items()}
        return SavedRanker(config, arrays | {"item_features": self.item_features})

    def trainable_copy(self, settings: Settings, sizes: Sizes, seed: int) -> ValueNetwork:
        """A copy of the network that can be trained further."""
        network = build_network(self.item_features, settings, behaviour=self.has_behaviour, seed=seed, **sizes._asdict())
        cast(nn.Module, network).load_state_dict(self.module.state_dict())
        return network


@dataclass(frozen=True, eq=False)
class BaselineRanker:
    """A baseline fitted on a log; what its scores are worth is their order."""

    scorer: Scorer

    by: RankingScore = "score"

    @property
    def ranking_scores(self) -> list[RankingScore]:
        """See `Ranker`."""
        return ["score"]

    def scores(self, observation: Observation) -> FloatArray:
        """See `Ranker`."""
        return self.scorer.scores(observation)

    def values(self, observation: Observation, listed: bool | None = None) -> tuple[FloatArray, FloatArray]:
        """See `Ranker`."""
        scores = self.scorer.scores(observation)
        return scores, scores

    def explain(self, state: State, items: IntArray) -> FloatArray | None:
        """None: a baseline does not estimate rewards."""
        return None

    def saved(self) -> SavedRanker:
        """See `Ranker`."""
        return SavedRanker(*scorer_to_saved(self.scorer))


def load_ranker(algorithm: str, saved: SavedRanker, settings: Settings, sizes: Sizes) -> Ranker:
    """The ranker of an algorithm from what `Ranker.saved` gave.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: it is not one of this version.
    """
    config, arrays = saved
    if algorithm in FITTED:
        return BaselineRanker(scorer_from_saved(config, arrays))
    network = build_network(arrays["item_features"], settings, behaviour=config["behaviour"], seed=0, **sizes._asdict())
    weights = {name[8:]: torch.as_tensor(value) for name, value in arrays.items() if name.startswith("network.")}
    cast(nn.Module, network).load_state_dict(weights)
    return NetworkRanker(network, arrays["item_features"], config["by"], config["support_threshold"], config["candidate_lists_in_support"])


def _behaviour_logits(values: ActionValues, items: torch.Tensor | None) -> FloatArray:
    """Of the catalogue [B, N + 1], or of items [B, K].

    Raises:
        ValueError: the network has no behaviour head.
    """
    inner = values.logits if isinstance(values, DistributionalValues) else values
    if not isinstance(inner, CatalogueValues):
        raise ValueError("this network has no behaviour head")
    return cast(FloatArray, inner.behaviour_logits(items).numpy())


def _columns(scores: FloatArray, shared: IntArray | None) -> FloatArray:
    """Those of the shared candidates, [B, K], from scores of the catalogue; a view where they are a run."""
    if shared is None:
        return scores
    first, last = (int(shared[0]), int(shared[-1])) if len(shared) else (0, -1)
    run = last - first + 1 == len(shared) and bool((np.diff(shared) == 1).all())
    return scores[:, first : last + 1] if run else scores[:, shared]


def supported_first(q: FloatArray, logits: FloatArray, mask: NDArray[np.int8], threshold: float) -> FloatArray:
    """Scores that rank in-support items first: outside the support of the log's policy, the span of q and 1 are subtracted.

    Args:
        q: float32 [B, K]. logits: of the behaviour head, up to a constant a row. mask: [B, K], 0 = may not be shown.
        threshold: least pi_b(a) / max pi_b inside, the maximum over what may be shown, as in the targets (`best_item`).
    """
    peak = np.where(mask != 0, logits, -np.inf).max(axis=1, keepdims=True)
    outside = logits < peak + np.float32(np.log(max(threshold, 1e-30)))
    span = q.max(axis=1, keepdims=True) - q.min(axis=1, keepdims=True) + np.float32(1)
    return cast(FloatArray, np.where(outside, q - span, q))
