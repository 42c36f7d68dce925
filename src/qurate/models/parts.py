"""What a trained model consists of: a ranker, when its items are available, where it comes from, and what it answers with."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from torch import nn

from qurate.events.features import Spec
from qurate.events.vocabulary import Vocabulary
from qurate.facts import facts_table, shortened
from qurate.mdp.live_lists import LiveLists
from qurate.models.histories import Histories
from qurate.models.network_ranker import NetworkRanker
from qurate.models.ranker import Ranker, RankingScore
from qurate.settings import Settings, SlateSettings
from qurate.types import DEFAULT_TAU_S, Availability, FloatArray, IntArray, Observation


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a model comes from.

    Attributes:
        algorithm: a row of `algorithms/table.py`, or a baseline.
        settings: that it was trained with.
        kind: of the log it was trained on (organic | exposure | logged), "environment", or "task" (no recommender).
        environment: name of the simulated world it was trained in, None = a dataset.
        dataset: directory of the dataset, for the histories of its users; None = an environment, or a dataset that was
            never written.
        tau_s: seconds, the time constant of the discount across pauses.
        metrics: what training measured.
        version: the first 12 digits of the sha256 of its weights file.
    """

    algorithm: str
    settings: Settings
    kind: str = "environment"
    environment: str | None = None
    dataset: str | None = None
    dataset_sha256: str | None = None
    tau_s: float = DEFAULT_TAU_S
    metrics: dict[str, Any] = field(default_factory=dict)
    version: str = "unsaved"


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What a model needs to turn ids and events into its own indices, and scores into an answer.

    Attributes:
        weights: float32 [R], reward weight per component (for explanations; Q is already weighted).
        rewards: what an event is worth, as in the dataset's manifest.
        popularity: float32 [N + 1], the fallback's score of each item.
        user_dim: U, encoded user features.
        item_spec, user_spec: how features are encoded.
        shown_in_history: decisions of one item leave a `shown` row in the history (mdp/encode.py).
        supports_cold_start: training has met states without any history, so that the model can answer customers without one.
        exclude, exclude_reason: what is not shown again where nobody says otherwise, and why (`choosing/seen.py`).
    """

    vocabulary: Vocabulary
    components: list[str]
    weights: FloatArray
    popularity: FloatArray
    user_dim: int
    rewards: dict[str, Any] = field(default_factory=dict)
    item_spec: Spec = field(default_factory=dict)
    user_spec: Spec = field(default_factory=dict)
    shown_in_history: bool = True
    supports_cold_start: bool = False
    exclude: str = "none"
    exclude_reason: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ModelParts:
    """All that answers a request. `Model` adds saving and answering.

    Attributes:
        availability: when each item may be shown.
        histories: of the users of its training log. None: a model of an environment, one that was to keep none, or an older one;
            `provenance.dataset` is then read in its place, where it is still there.
        lists: what is offered where the catalogue is not, and the counters by which it is ranked, as of the end of the training log.
        checkpoint: file name -> content, what `train --resume` needs.
    """

    ranker: Ranker
    availability: Availability
    provenance: Provenance
    answering: Answering
    histories: Histories | None = field(default=None, repr=False)
    lists: LiveLists | None = field(default=None, repr=False)
    checkpoint: dict[str, bytes] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        source = f"in {self.environment}" if self.environment else f"from {self.dataset or 'a dataset in memory'}"
        return f"Model({self.algorithm}, {self.vocabulary.n_items:,} items, trained {source}, version {self.version})"

    def _repr_html_(self) -> str:
        weights = shortened([f"{name} {weight:g}" for name, weight in zip(self.components, self.weights)], 8)
        facts = {"trained": self.environment or self.dataset or "from a dataset in memory", "kind": self.kind, "rewards": weights}
        figures = {name: value for name, value in self.metrics.items() if isinstance(value, int | float | str)}
        known = {"items": self.vocabulary.n_items, "users": None if self.histories is None else self.histories.users.height}
        return facts_table(f"Model {self.algorithm}", {**facts, **known, **figures, "version": self.version})

    def with_provenance(self, **changes: Any) -> Self:
        """The same model with some fields of its provenance changed."""
        return replace(self, provenance=replace(self.provenance, **changes))

    def with_answering(self, **changes: Any) -> Self:
        """The same model with some fields of its answering part changed."""
        return replace(self, answering=replace(self.answering, **changes))

    @property
    def name(self) -> str:
        """Of this model as a policy."""
        return self.provenance.algorithm

    @property
    def algorithm(self) -> str:
        """See `Provenance`."""
        return self.provenance.algorithm

    @property
    def settings(self) -> Settings:
        """See `Provenance`."""
        return self.provenance.settings

    @property
    def kind(self) -> str:
        """See `Provenance`."""
        return self.provenance.kind

    @property
    def environment(self) -> str | None:
        """See `Provenance`."""
        return self.provenance.environment

    @property
    def dataset(self) -> str | None:
        """See `Provenance`."""
        return self.provenance.dataset

    @property
    def metrics(self) -> dict[str, Any]:
        """See `Provenance`."""
        return self.provenance.metrics

    @property
    def version(self) -> str:
        """See `Provenance`."""
        return self.provenance.version

    @property
    def slate_size(self) -> int | None:
        """Items shown at once where it was trained; None for algorithms of single items."""
        own = self.settings.algorithm
        return own.slate_size if isinstance(own, SlateSettings) else None

    @property
    def window(self) -> int:
        """L, history rows in a state."""
        return self.provenance.settings.window

    @property
    def vocabulary(self) -> Vocabulary:
        """See `Answering`."""
        return self.answering.vocabulary

    @property
    def components(self) -> list[str]:
        """See `Answering`."""
        return self.answering.components

    @property
    def weights(self) -> FloatArray:
        """See `Answering`."""
        return self.answering.weights

    @property
    def popularity(self) -> FloatArray:
        """See `Answering`."""
        return self.answering.popularity

    @property
    def user_dim(self) -> int:
        """See `Answering`."""
        return self.answering.user_dim

    @property
    def user_spec(self) -> Spec:
        """See `Answering`."""
        return self.answering.user_spec

    @property
    def candidate_columns(self) -> tuple[str, ...]:
        """Names of what a request may say of each of its candidates and the network uses."""
        ours = isinstance(self.ranker, NetworkRanker) and self.lists is None
        return tuple(self.ranker.columns or ()) if ours and isinstance(self.ranker, NetworkRanker) else ()

    @property
    def shown_in_history(self) -> bool:
        """See `Answering`."""
        return self.answering.shown_in_history

    @property
    def supports_cold_start(self) -> bool:
        """See `Answering`."""
        return self.answering.supports_cold_start

    @property
    def by(self) -> RankingScore:
        """Which score decides what is shown."""
        return self.ranker.by

    @property
    def network(self) -> nn.Module:
        """The Q-network.

        Raises:
            AttributeError: this model has none.
        """
        if not isinstance(self.ranker, NetworkRanker):
            raise AttributeError(f"a model of {self.algorithm} has no network")
        return self.ranker.module

    def ranked_by(self, by: RankingScore) -> Self:
        """The same model whose `scores` are another score; networks are shared.

        Raises:
            ValueError: the model has no such score.
        """
        if by == self.by:
            return self
        if by not in self.ranker.ranking_scores or not isinstance(self.ranker, NetworkRanker):
            raise ValueError(f"a model of {self.algorithm} ranks by {', '.join(self.ranker.ranking_scores)}")
        return replace(self, ranker=self.ranker.ranked_by(by))

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K] of the observation's candidates: higher is shown first."""
        return self.ranker.scores(observation)

    def values(self, observation: Observation, listed: bool | None = None) -> tuple[FloatArray, FloatArray]:
        """What the candidates are worth and the score by which they rank, see `Ranker.values`."""
        return self.ranker.values(observation, listed)

    def explain(self, observation: Observation, items: IntArray) -> FloatArray | None:
        """What items [B, K] are worth now and later, see `Ranker.explain`; None where the sum of the components is learned."""
        if self.settings.of_the_sum:
            return None
        candidates, features = observation.actions.candidates, self.ranker.candidate_features(observation)
        if features is not None:
            place = (candidates[:, :, None] == np.asarray(items)[:, None]).argmax(1)
            features = np.take_along_axis(features, place[:, :, None], axis=1)
        return self.ranker.explain(observation.state, np.asarray(items, np.int64), features)
