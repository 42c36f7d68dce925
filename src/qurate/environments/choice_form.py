"""The choice model of a world that tells it: how customers choose among the items of a slate."""

from typing import NamedTuple, Protocol, runtime_checkable

from qurate.types import FloatArray


class ChoiceForm(NamedTuple):
    """Masses of a proportional choice: P(i | slate) = m_i / (nothing + sum of m_j), m_i = affinity[i] . user features + least."""

    affinity: FloatArray  # [N + 1, U], row 0 zeros
    least: float
    nothing: float


@runtime_checkable
class TellsChoice(Protocol):
    """A world whose choice model may be known to a recommender, as it is to the agents of RecSim."""

    def choice_form(self) -> ChoiceForm:
        """Of all customers, from what is seen of them."""
        ...
