"""What orders candidates: the one interface of trained models.

Networks over a catalogue (`network_ranker.py`), of Gymnasium tasks (`task_ranker.py`) and baselines (`baseline_ranker.py`) have it;
another kind of ranker is a file beside them, and a case in `directory.py`.
"""

from typing import Any, Literal, NamedTuple, Protocol

from numpy.typing import NDArray

from qurate.types import FloatArray, IntArray, Observation, State

RankingScore = Literal["q", "q_in_support", "behaviour", "behaviour_times_q", "policy", "score"]
"""Which score ranks: Q alone; Q inside the support of the log's policy, then the rest; the behaviour head; log pi_b + log Q; the
same head where it was trained as a policy of its own (IQL); a baseline's own."""


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

    def candidate_features(self, observation: Observation) -> FloatArray | None:
        """Features of the candidates at this decision, float32 [B, K, F]; None where it uses none."""
        ...

    def explain(self, state: State, items: IntArray, features: FloatArray | None = None) -> FloatArray | None:
        """What items [B, K], with features [B, K, F], are worth now and later, by component: float32 [B, K, 2, R].

        In weighted reward units.

        `now` is NaN where it is not separate from `later`; None from a ranker that does not estimate rewards.
        """
        ...

    def saved(self) -> SavedRanker:
        """What the loader of its kind needs to make it again."""
        ...
