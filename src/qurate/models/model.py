"""A trained model: the averaged network, the vocabulary and features it speaks, and what it needs to answer alone.

`storage.py` writes and reads the directory; `recommend.py` turns a history into a decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from qurate.decision import Decision
from qurate.events.features import Spec
from qurate.events.vocabulary import Vocabulary
from qurate.networks.build import build_network as build_network
from qurate.networks.catalogue_network import CatalogueNetwork
from qurate.networks.catalogue_values import CatalogueValues
from qurate.networks.item_tower import ItemTable
from qurate.networks.values import to_tensors
from qurate.settings import Settings
from qurate.types import FloatArray, IntArray, Observation, State

if TYPE_CHECKING:
    from qurate.models.histories import Histories

By = Literal["q", "q_in_support", "behaviour"]
"""Which score ranks: Q alone; Q inside the support of the log's policy, then the rest; the behaviour head."""


@dataclass(frozen=True)
class Model:
    """All that answers a request.

    Attributes:
        weights: float32 [R], reward weight per component (for explanations; Q is already weighted).
        popularity: float32 [N + 1], the fallback's score of each item: credited reward in training.
        n_available: items 1..n_available may be shown, the last of them from a day to come: see `upcoming`.
        upcoming: int64 [n], ascending microseconds from which the last n of them may be shown: declared for a time after
            the end of the training log. Whatever was available before it ended still is.
        answers_newcomers: training has met states without any history, so that the model knows what to show a stranger.
        shown_in_history: decisions of one item leave a `shown` row in the history (mdp/encode.py).
        dataset: directory the model was trained from, for the histories of its users; None = an environment, or a
            dataset that was never written.
        histories: of the dataset in memory that the model was trained from; a loaded model reads `dataset` instead.
        by: which score decides what is shown (`build._ranks_by`).
        lists_inside: training met explicit lists, on which everything is inside the support by construction.
        checkpoint: file name -> content, what `train --resume` needs.
    """

    network: CatalogueNetwork
    settings: Settings
    algorithm: str
    vocabulary: Vocabulary
    components: list[str]
    weights: FloatArray
    popularity: FloatArray
    n_available: int
    user_dim: int
    kind: str = "environment"
    shown_in_history: bool = True
    rewards: dict[str, Any] = field(default_factory=dict)
    item_spec: Spec = field(default_factory=dict)
    user_spec: Spec = field(default_factory=dict)
    dataset: str | None = None
    dataset_sha256: str | None = None
    environment: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    version: str = "unsaved"
    by: By = "q"
    answers_newcomers: bool = False
    lists_inside: bool = False
    checkpoint: dict[str, bytes] = field(default_factory=dict, repr=False)
    upcoming: IntArray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    histories: "Histories | None" = field(default=None, repr=False)
    _tables: list[ItemTable] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """Of this model as a policy."""
        return self.algorithm

    @property
    def window(self) -> int:
        """L, history rows in a state."""
        return self.settings.window

    def available_at(self, clock_us: int) -> int:
        """Items 1..n may be shown at this time, microseconds."""
        return self.n_available - len(self.upcoming) + int(np.searchsorted(self.upcoming, clock_us, "right"))

    def ranked_by(self, by: By) -> "Model":
        """The same model whose `scores` are another score; networks are shared.

        Raises:
            ValueError: the model has no behaviour head.
        """
        if by != "q" and self.network.behaviour is None:
            raise ValueError("this model was trained without a behaviour head (aux_weight=0)")
        return replace(self, by=by)

    def save(self, path: str | Path) -> "Model":
        """Writes the model directory (`storage.save`) and returns the model with its version."""
        from qurate.models.directory import save

        return save(self, path)

    def recommend(
        self,
        user: str | None = None,
        k: int = 10,
        candidates: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        context: dict[str, Any] | None = None,
        history: Sequence[dict[str, Any]] | None = None,
        explain: bool = False,
        seed: int = 0,
    ) -> Decision:
        """The k best items for a user of the training log, or for a given history.

        Args:
            user: id in the training log.
            candidates: item ids to choose from, default all that are available.
            exclude: item ids not to show.
            context: the customer's features by name, in place of those in the log.
            history: events `{"item_id", "type", "timestamp" (ISO text or microseconds), "value"}`, oldest first, in
                place of those in the log.
            seed: of the order among items with the same score.

        Raises:
            UserError: k below 1, one text in place of a list of ids, or a history that cannot be read.
        """
        from qurate.models.histories import recommend

        return recommend(self, user, k, candidates, exclude, context, history, explain, seed)

    def table(self) -> ItemTable:
        """The item table, computed once."""
        if not self._tables:
            self.network.eval()
            with torch.no_grad():
                self._tables.append(self.network.tower(None))
        return self._tables[0]

    def action_values(self, state: State) -> CatalogueValues:
        """Values of the catalogue for B states."""
        table = self.table()
        return CatalogueValues(self.network.heads(to_tensors(state), table), table)

    def scores(self, observation: Observation) -> FloatArray:
        """float32 [B, K] of the observation's candidates: higher is shown first."""
        return self.values(observation)[1]

    def values(self, observation: Observation, listed: bool | None = None) -> tuple[FloatArray, FloatArray]:
        """What the candidates are worth and the score by which they rank, float32 [B, K] each: the same, but for the support.

        Candidates that all rows share cost one matrix product.

        Args:
            listed: whether the candidates are explicit lists; by default they are where each row brings its own.
        """
        inside = None
        listed = observation.actions.candidates.strides[0] != 0 if listed is None else listed
        with torch.no_grad():
            values = self.action_values(observation.state)
            shared = _shared_items(observation.actions.candidates)
            items = torch.as_tensor(observation.actions.candidates.copy()) if shared is None else None
            if self.by == "behaviour":
                worth = values.behaviour_logits(items).numpy()
            else:
                worth = (values.all() if items is None else values.of(items)).numpy()
            if self.by == "q_in_support" and not (listed and self.lists_inside):
                inside = values.behaviour_logits(items).numpy()
        worth = _columns(worth, shared)
        if inside is None:
            return worth, worth
        return worth, supported_first(worth, _columns(inside, shared), observation.actions.mask, self.settings.offline.support_threshold)

    def explain(self, observation: Observation, items: NDArray[np.int64]) -> FloatArray:
        """Q of items [B, K] by head: float32 [B, K, 2, R], now and later of each component, in weighted reward units.

        The single-head form cannot tell now from later: everything is `later` there, and `now` is NaN.
        """
        with torch.no_grad():
            by_head = self.action_values(observation.state).by_head(torch.as_tensor(items)).numpy()
        components = self.network.n_components
        if self.network.form == "single":
            by_head = np.concatenate([np.full_like(by_head, np.nan), by_head], axis=2)
        return cast(FloatArray, by_head.reshape(*items.shape, 2, components))


def _shared_items(candidates: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The one list of candidates that all rows share, or None."""
    shared = len(candidates) == 1 or candidates.strides[0] == 0
    return np.asarray(candidates[0]) if shared else None


def _columns(scores: FloatArray, shared: NDArray[np.int64] | None) -> FloatArray:
    """Those of the shared candidates, [B, K], from scores of the catalogue; a view where they are a run."""
    if shared is None:
        return scores
    first, last = int(shared[0]), int(shared[-1])
    run = last - first + 1 == len(shared) and bool((np.diff(shared) == 1).all())
    return scores[:, first : last + 1] if run else scores[:, shared]


def supported_first(q: FloatArray, logits: FloatArray, mask: NDArray[np.int8], threshold: float) -> FloatArray:
    """q, less its span and 1 where the log's policy lends no support: those come after all others, in their own order.

    Args:
        q: float32 [B, K]. logits: of the behaviour head, up to a constant a row. mask: [B, K], 0 = may not be shown.
        threshold: least pi_b(a) / max pi_b inside, the maximum over what may be shown, as in the targets (`best_item`).
    """
    peak = np.where(mask != 0, logits, -np.inf).max(axis=1, keepdims=True)
    outside = logits < peak + np.float32(np.log(max(threshold, 1e-30)))
    span = q.max(axis=1, keepdims=True) - q.min(axis=1, keepdims=True) + np.float32(1)
    return cast(FloatArray, np.where(outside, q - span, q))
