"""The ranker of a baseline."""

from dataclasses import dataclass

from qurate.baselines.saved import scorer_from_saved, scorer_to_saved
from qurate.models.ranker import RankingScore, SavedRanker
from qurate.types import FloatArray, IntArray, Observation, Scorer, State


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

    def candidate_features(self, observation: Observation) -> FloatArray | None:
        """None: a baseline does not use any."""
        return None

    def explain(self, state: State, items: IntArray, features: FloatArray | None = None) -> FloatArray | None:
        """None: a baseline does not estimate rewards."""
        return None

    def saved(self) -> SavedRanker:
        """See `Ranker`."""
        return SavedRanker(*scorer_to_saved(self.scorer))


def load_baseline_ranker(saved: SavedRanker) -> BaselineRanker:
    """The ranker from what `BaselineRanker.saved` gave.

    Raises:
        KeyError, TypeError, ValueError: it is not one of this version.
    """
    return BaselineRanker(scorer_from_saved(*saved))
