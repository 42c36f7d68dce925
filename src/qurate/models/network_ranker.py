"""The ranker of a Q-network over a catalogue."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from qurate.choosing.slate_sampling import is_shared
from qurate.mdp.candidate_features import feature_count, observed_features
from qurate.models.calibration import ChoiceCalibration, chosen_and_worth
from qurate.models.ranker import RankingScore, SavedRanker, Sizes
from qurate.networks.build import build_network, inner_network
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.catalogue_values import CatalogueValues
from qurate.networks.distributional_values import DistributionalValues, QuantileValues
from qurate.networks.implicit_quantiles import ImplicitValues
from qurate.networks.linear_later import LinearLaterNetwork, LinearLaterValues
from qurate.networks.slate_network import SlateValues
from qurate.networks.values import ActionValues, BoundNetwork, ValueNetwork, to_tensors
from qurate.settings import Settings
from qurate.types import FloatArray, IntArray, Observation, State, take_rows

FEATURE_ROWS = 2_000_000
"""Candidates whose features go through the network at a time."""
CACHED_ROWS = 1_024
"""The same where nothing but the features' own layers is run: what the layers give stays in the processor's cache, in half the time."""
SMALL_PART = 256
"""Lists with fewer items than one in so many of the catalogue are looked up; for longer ones a product with all items takes less time."""

CALIBRATION = "calibration."
"""Prefix of the calibration's arrays."""


@dataclass(frozen=True, eq=False)
class NetworkRanker:
    """A Q-network over a catalogue, or a table of Q-values.

    Attributes:
        network: not trained any further. What does not depend on the state (an item table) is computed once, by the first call.
        item_features: float32 [N + 1, F] of the catalogue it was built for.
        by: which score decides the order.
        support_threshold: least pi_b(a) / max pi_b(.) of an item inside the support.
        candidate_lists_in_support: training met explicit lists, on which everything is inside the support by construction.
        columns: what it was trained to use of each candidate at its decision, beside what the history says; None = nothing of both.
        n_types: M, for those features.
        calibration: of the behaviour head, None = as trained.
        rankings: the scores by which it may rank, None = all that its heads give: an algorithm may leave some untrained.
        mean_reward, q_power: of `chosen_and_worth`.
    """

    network: ValueNetwork
    item_features: FloatArray
    by: RankingScore = "q"
    support_threshold: float = 0.0
    candidate_lists_in_support: bool = False
    columns: tuple[str, ...] | None = None
    n_types: int = 0
    calibration: ChoiceCalibration | None = None
    mean_reward: float = 1.0
    q_power: float = 1.0
    rankings: tuple[RankingScore, ...] | None = None

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
        inner = inner_network(self.module)
        return isinstance(inner, CatalogueNetwork) and inner.behaviour is not None

    @property
    def ranking_scores(self) -> list[RankingScore]:
        """See `Ranker`."""
        if self.rankings is not None:
            return list(self.rankings)
        return ["q", "q_in_support", "behaviour", "behaviour_times_q"] if self.has_behaviour else ["q"]

    def ranked_by(self, by: RankingScore) -> "NetworkRanker":
        """The same network, ranking by another score."""
        return replace(self, by=by)

    @cached_property
    def _bound(self) -> BoundNetwork:
        with torch.no_grad():
            return self.network.bind()

    @cached_property
    def _value_and_choice(self) -> Callable[[torch.Tensor], torch.Tensor]:
        layers = cast(CatalogueNetwork, self.module).candidate
        assert layers is not None
        return layers.value_and_choice()

    def action_values(self, state: State) -> ActionValues:
        """Values of the catalogue for B states."""
        with torch.no_grad():
            return self._bound(to_tensors(state))

    def scores(self, observation: Observation) -> FloatArray:
        """See `Ranker`."""
        return self.values(observation)[1]

    def values(self, observation: Observation, listed: bool | None = None) -> tuple[FloatArray, FloatArray]:
        """See `Ranker`: worth and score are the same, but for the support, and for slates, which also depend on what is chosen."""
        worth, scores = self._scored(observation, listed, [self.by])
        return worth, scores[self.by]

    def scores_by(self, observation: Observation) -> dict[RankingScore, FloatArray]:
        """The scores by each of `ranking_scores`, float32 [B, K] each, for the work of one."""
        return self._scored(observation, None, self.ranking_scores)[1]

    @torch.inference_mode()
    def _scored(
        self, observation: Observation, listed: bool | None, wanted: Sequence[RankingScore]
    ) -> tuple[FloatArray, dict[RankingScore, FloatArray]]:
        """Worth and scores. Candidates that all rows share cost one matrix product, unless they are a small part of the catalogue."""
        candidates, mask = observation.actions.candidates, observation.actions.mask
        if self.columns is not None and isinstance(self.module, LinearLaterNetwork):
            worth = self._of_events(observation)
            return worth, dict.fromkeys(wanted, worth)
        listed = candidates.strides[0] != 0 if listed is None else listed
        values = self.action_values(observation.state)
        many = candidates.size * SMALL_PART >= len(self.item_features)
        shared = candidates[0] if many and is_shared(candidates) else None
        items = None if shared is not None else to_tensors(candidates)
        added = self._of_features(observation)
        if added is not None and isinstance(values, CatalogueValues):
            values = CatalogueValues(values.heads, values.table)  # what features add comes per candidate of this decision
        everything_inside = listed and self.candidate_lists_in_support
        of_q = {"q", "q_in_support"} if everything_inside else {"q"}
        inside = None if of_q.issuperset(wanted) else self._behaviour(values, items, shared, observation, added)
        if inside is not None and {"behaviour", "policy"}.issuperset(wanted):
            return inside, dict.fromkeys(wanted, inside)
        worth = _columns((values.all() if items is None else values.of(items)).numpy(), shared)
        worth = worth if added is None else worth + added[0]
        if isinstance(values, SlateValues):
            slates = values.slate_scores(torch.from_numpy(np.array(candidates)) if items is None else items).numpy()
            return worth, dict.fromkeys(wanted, slates)
        return worth, {by: worth if by in of_q else self._score(by, worth, cast(FloatArray, inside), mask) for by in wanted}

    def _score(self, by: RankingScore, worth: FloatArray, inside: FloatArray, mask: NDArray[np.int8]) -> FloatArray:
        """One score, from what the candidates are worth and the logits of the log's policy."""
        if by == "q_in_support":
            return supported_first(worth, inside, mask, self.support_threshold)
        if by == "behaviour_times_q":
            return chosen_and_worth(inside, worth, self.mean_reward, self.q_power)
        return inside

    def _behaviour(
        self, values: ActionValues, items: torch.Tensor | None, shared: IntArray | None, observation: Observation,
        added: tuple[FloatArray, FloatArray] | None,
    ) -> FloatArray:  # fmt: skip
        """Logits of the log's policy for the candidates, [B, K], calibrated where they can be."""
        raw = _columns(_behaviour_logits(values, items), shared)
        raw = raw if added is None else raw + added[1]
        return raw if self.calibration is None else self.calibration.logits(raw, observation)

    def candidate_features(self, observation: Observation) -> FloatArray | None:
        """See `Ranker`; a column that the observation does not have is not known."""
        return None if self.columns is None else observed_features(observation, self.columns, self.n_types)

    def _of_events(self, observation: Observation) -> FloatArray:
        """Q of the candidates, float32 [B, K], where their features are no term of a sum: by rows that fit into memory."""
        features, out = cast(FloatArray, self.candidate_features(observation)), []
        rows = max(1, FEATURE_ROWS // features.shape[1])
        for part in (slice(i, i + rows) for i in range(0, len(features), rows)):
            values = self.action_values(take_rows(observation.state, part))
            candidates = to_tensors(np.array(observation.actions.candidates[part]))
            out.append(values.of(candidates, torch.from_numpy(features[part])).numpy())
        return np.concatenate(out)

    def _of_features(self, observation: Observation) -> tuple[FloatArray, FloatArray] | None:
        """What features of the candidates add to Q and to the logits of the behaviour head, [B, K] each; None without such features."""
        features = self.candidate_features(observation)
        if features is None:
            return None
        listed = np.flatnonzero(observation.actions.candidates)  # not the padding
        rows = torch.from_numpy(features.reshape(-1, features.shape[2])[listed])
        added = np.zeros((2, features.shape[0] * features.shape[1]), np.float32)
        added[:, listed] = torch.cat([self._value_and_choice(part) for part in torch.split(rows, CACHED_ROWS)]).T.numpy()
        q, behaviour = added.reshape(2, *features.shape[:2])
        return q, behaviour

    @torch.no_grad()
    def explain(self, state: State, items: IntArray, features: FloatArray | None = None) -> FloatArray | None:
        """See `Ranker`: Q by head. In the single form everything is `later`; None where heads are no components or Q was not learnt."""
        values = self.action_values(state)
        if not isinstance(values, CatalogueValues | LinearLaterValues | SlateValues) or "q" not in self.ranking_scores:
            return None
        by_head = values.by_head(to_tensors(items), to_tensors(features)).numpy()
        if self.network.form == "single":
            by_head = np.concatenate([np.full_like(by_head, np.nan), by_head], axis=2)
        return cast(FloatArray, by_head.reshape(*items.shape, 2, self.network.n_components))

    def saved(self) -> SavedRanker:
        """See `Ranker`."""
        config: dict[str, Any] = {
            "by": self.by,
            "support_threshold": self.support_threshold,
            "candidate_lists_in_support": self.candidate_lists_in_support,
            "behaviour": self.has_behaviour,
            "columns": None if self.columns is None else list(self.columns),
            "mean_reward": self.mean_reward,
            "q_power": self.q_power,
            "calibrated": self.calibration is not None,
            "rankings": None if self.rankings is None else list(self.rankings),
        }
        arrays = {f"network.{name}": value.contiguous().numpy() for name, value in self.module.state_dict().items()}
        if self.calibration is not None:
            config["neighbours"], numbers = self.calibration.saved()
            arrays |= {CALIBRATION + name: value for name, value in numbers.items()}
        return SavedRanker(config, arrays | {"item_features": self.item_features})

    @property
    def _width(self) -> int:
        """F."""
        return feature_count(self.columns, self.n_types)

    def trainable_copy(self, settings: Settings, sizes: Sizes, seed: int) -> ValueNetwork:
        """A copy of the network that can be trained further."""
        network = build_network(
            self.item_features, settings, behaviour=self.has_behaviour, seed=seed, candidate_features=self._width, **sizes._asdict()
        )
        cast(nn.Module, network).load_state_dict(self.module.state_dict())
        return network


def load_network_ranker(saved: SavedRanker, settings: Settings, sizes: Sizes) -> NetworkRanker:
    """The ranker from what `NetworkRanker.saved` gave.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: it is not one of this version.
    """
    config, arrays = saved
    columns = None if config.get("columns") is None else tuple(config["columns"])
    width = feature_count(columns, sizes.n_types)
    network = build_network(
        arrays["item_features"], settings, behaviour=config["behaviour"], seed=0, candidate_features=width, **sizes._asdict()
    )
    weights = {name[8:]: torch.as_tensor(value) for name, value in arrays.items() if name.startswith("network.")}
    cast(nn.Module, network).load_state_dict(weights)
    own = {name.removeprefix(CALIBRATION): value for name, value in arrays.items() if name.startswith(CALIBRATION)}
    return NetworkRanker(
        network, arrays["item_features"], config["by"], config["support_threshold"], config["candidate_lists_in_support"],
        calibration=ChoiceCalibration.from_saved(config["neighbours"], own) if config.get("calibrated") else None,
        columns=columns, n_types=sizes.n_types, mean_reward=config.get("mean_reward", 1.0),
        q_power=config.get("q_power", 1.0),
        rankings=None if config.get("rankings") is None else tuple(config["rankings"]),
    )  # fmt: skip


def _behaviour_logits(values: ActionValues, items: torch.Tensor | None) -> FloatArray:
    """Of the catalogue [B, N + 1], or of items [B, K].

    Raises:
        ValueError: the network has no behaviour head.
    """
    inner: object = values.logits if isinstance(values, DistributionalValues) else values
    inner = values.sums if isinstance(values, QuantileValues) else values.mean if isinstance(values, ImplicitValues) else inner
    if not isinstance(inner, CatalogueValues):
        raise ValueError("this network has no behaviour head")
    return cast(FloatArray, inner.behaviour_logits(items).numpy())


def _columns(scores: FloatArray, shared: IntArray | None) -> FloatArray:
    """Those of the shared candidates, [B, K], from scores of the catalogue; a view where they are a run."""
    if shared is None:
        return scores
    first, last = (int(shared[0]), int(shared[-1])) if len(shared) else (0, -1)
    run = last - first + 1 == len(shared) and np.array_equal(shared, np.arange(first, last + 1))
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
