"""A trained model: loaded, saved, and its recommendations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from qurate.decision import Decision
from qurate.errors import Code, UserError
from qurate.models.directory import read_model, write_model
from qurate.models.parts import ModelParts
from qurate.models.recommend import recommend


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Model(ModelParts):
    """All that answers a request (`ModelParts`), with saving and answering. `qurate.train` makes one, `qurate.load` reads one.

    >>> qurate.train(log, algorithm="popularity")
    Model(popularity, 7 items, trained from a dataset in memory, version unsaved)
    """

    def save(self, path: str | Path, *, force: bool = False, page: str | None = None) -> "Model":
        """Writes the model directory and returns the model with its version.

        Args:
            path: the directory; an older model there is replaced in one rename, or not at all.
            force: replace what is there even if it is no model.
            page: HTML for people (`report.html`).

        Raises:
            UserError: `path` is a file, a directory that is not a model, or one with files besides the model's.
            MachineError: the disk is full or not writable; what was at `path` is still there.
        """
        return write_model(self, path, force, page)

    def recommend(
        self,
        user: str | None = None,
        k: int = 10,
        candidates: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        context: dict[str, Any] | None = None,
        history: Sequence[dict[str, Any]] | None = None,
        explain: bool = False,
        *,
        candidate_features: Mapping[str, Sequence[float | None]] | None = None,
        seed: int = 0,
    ) -> Decision:
        """The k best items for a user of the training log, or for a given history.

        Args:
            user: id in the training log.
            candidates: item ids to choose from, default all that are available.
            exclude: item ids not to show, and what the customer has met that is not shown again: `seen`, `purchased`, `none` or
                event types, also within a time (`purchased:30d`). Without such a word the model's default holds.
            context: the customer's features by name, in place of those in the log.
            history: events `{"item_id", "type", "timestamp" (ISO text or microseconds), "value"}`, oldest first, in
                place of those in the log.
            explain: also what each item is worth now and later, where the model estimates it.
            candidate_features: what is known of each of `candidates` at this moment, by the names of the log's columns
                `candidate.NAME` (`{"price": [9.5, 12.0]}`), in their order; None where it is not known.
            seed: of the order among items with the same score.

        Raises:
            UserError: k below 1, one text in place of a list of ids, a history that cannot be read, or features of another length
                than the candidates.

        >>> model = qurate.train(log, algorithm="popularity")
        >>> [item.item_id for item in model.recommend(user="u1", k=2, exclude=["i5", "none"]).items]
        ['i0', 'i1']
        """
        return recommend(
            self, user, k, candidates=candidates, candidate_features=candidate_features, exclude=exclude, context=context,
            history=history, explain=explain, seed=seed,
        )  # fmt: skip


def load(path: str | Path) -> Model:
    """Reads a model directory, checks every file, and checks that it still gives its golden answers.

    Raises:
        UserError: missing, of another format, altered, truncated, or giving other answers than when it was saved.

    >>> saved = qurate.train(log, algorithm="popularity").save("model")
    >>> qurate.load("model").version == saved.version
    True
    """
    given: object = path
    if not isinstance(given, str | Path):
        hint = "train one with qurate.train"
        raise UserError("a model or its directory", f"{given!r:.100}", where="model", hint=hint, code=Code.NOT_A_MODEL)
    parts = read_model(path)
    return Model(**{field.name: getattr(parts, field.name) for field in fields(parts)})
