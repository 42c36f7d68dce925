"""The item tower: a vector and biases for every item of the catalogue, from its features and (if wanted) its id."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from qurate.networks.quantised_max import ITEMS as SEARCHED_ITEMS
from qurate.networks.quantised_max import QuantisedRows, fast_bytes

STALE = 100
"""Updates after which the rows that are searched get the present part from the features, and all rows the present mean."""


@dataclass(frozen=True, eq=False)
class ItemTable:
    """The whole catalogue at once; row 0 is padding. `centred` is what Q heads see: e_a - e_mean over the catalogue."""

    vectors: Tensor  # [N + 1, d]
    centred: Tensor  # [N + 1, d + H]: centred vectors, then the H biases, centred too

    @property
    def shape(self) -> tuple[int, int]:
        """N + 1, d + H."""
        return self.centred.shape[0], self.centred.shape[1]

    def rows(self, items: Tensor) -> Tensor:
        """Centred rows [..., d + H] of items [...]."""
        return self.centred.index_select(0, items.flatten()).view(*items.shape, -1)

    def of_window(self, state: Any) -> tuple[Tensor, Any]:
        """Vectors [M + 1, d], row 0 padding, and the state with the items of its window numbered by them."""
        return self.vectors, state

    @cached_property
    def search(self) -> QuantisedRows | None:
        """Finds the best items faster than a product; None where it would not, or where the rows change with every update."""
        large = len(self.centred) > SEARCHED_ITEMS and self.centred.device.type == "cpu" and not self.centred.requires_grad
        return QuantisedRows(self.centred) if large and fast_bytes() else None


class TouchedTable:
    """The table of an `ItemTower` whose ids are trained row by row: rows on demand, with a gradient for these alone.

    The mean of the catalogue is a constant, `STALE` updates old at most: its gradient would be 1/N for every row.

    Args:
        tower: in training mode. generator: draws the id dropout.
    """

    def __init__(self, tower: "ItemTower", generator: torch.Generator | None) -> None:
        self.tower, self.generator, self.searched = tower, generator, tower.searched_rows()

    @property
    def shape(self) -> tuple[int, int]:
        """See `ItemTable`."""
        return len(self.tower.get_buffer("real")), self.tower.dim + self.tower.n_heads

    def rows(self, items: Tensor) -> Tensor:
        """See `ItemTable`."""
        each, places = torch.unique(items, return_inverse=True)  # a gradient for each row once
        rows = (self._own(each) - self.searched.mean) * (each > 0)[:, None]
        out: Tensor = rows.index_select(0, places.flatten()).view(*items.shape, -1)
        return out

    def of_window(self, state: Any) -> tuple[Tensor, Any]:
        """See `ItemTable`; only the items that stand in a window are looked up, each once."""
        window = state.history_items.flatten().long()
        items, places = torch.unique(torch.cat([window.new_zeros(1), window]), return_inverse=True)
        vectors = self._own(items, vectors_only=True) * (items > 0)[:, None]
        return vectors, state._replace(history_items=places[1:].view(state.history_items.shape))

    @cached_property
    def centred(self) -> Tensor:
        """See `ItemTable`; without gradients, for what needs all values."""
        rows: Tensor = self.searched.rows - self.searched.mean
        rows[0] = 0
        return rows

    @property
    def search(self) -> QuantisedRows | None:
        """See `ItemTable`."""
        return self.searched.quantised

    def _own(self, items: Tensor, vectors_only: bool = False) -> Tensor:
        tower = self.tower
        weights = [cast(nn.Parameter, tower.ids), cast(nn.Parameter, tower.id_bias)][: 1 if vectors_only else 2]
        out = torch.cat([nn.functional.embedding(items, weight, sparse=True) for weight in weights], dim=1)
        if tower.from_features is None:
            return out
        if tower.id_dropout > 0:
            out = out * (torch.rand(len(items), 1, generator=self.generator, device=items.device) >= tower.id_dropout)
        part: Tensor = tower.from_features(tower.get_buffer("features").index_select(0, items))
        return out + part[:, : out.shape[1]]


class SearchedRows:
    """The rows of all items among which the best ones are searched while ids are trained row by row.

    Args:
        rows: float32 [N + 1, d + H], not centred, row 0 zeros.
        of_features: float32 [N + 1, d + H], that part of them; None without features. weights: those that made it.
        mean: [d + H] over the items, None = that of `rows`.
    """

    def __init__(self, rows: Tensor, of_features: Tensor | None, weights: dict[str, Tensor], mean: Tensor | None) -> None:
        self.of_features, self.weights = of_features, weights
        self.mean = rows.sum(0) / max(len(rows) - 1, 1) if mean is None else mean
        self.quantised = QuantisedRows(rows) if rows.device.type == "cpu" and fast_bytes() else None
        self.rows = rows if self.quantised is None else self.quantised.rows[: len(rows), : rows.shape[1]]

    def replace(self, items: Tensor, own: Tensor) -> None:
        """What ids and their biases [n, d + H] of n different items became."""
        rows = own if self.of_features is None else own + self.of_features.index_select(0, items)
        rows = rows * (items > 0)[:, None]
        if self.quantised is None:
            self.rows[items] = rows
        else:
            self.quantised.replace(items, rows)


class ItemTower(nn.Module):
    """e_a = id embedding + layers(features); an unseen id has the zero embedding, so its features carry it.

    Args:
        features: float32 [N + 1, F], row 0 zeros; F may be 0.
        dim: d, dimensions of an item vector.
        n_heads: H, biases per item.
        hidden: units of the layer over the features.
        id_embedding: learn a free vector and free biases per item; without it and without features all items are alike.
        id_dropout: share of ids hidden per call in training mode.
        touched: train only the ids that a batch touches (`learning/touched_rows.py`); it needs `id_embedding`.
    """

    def __init__(
        self, features: Tensor, dim: int, n_heads: int, hidden: int, id_embedding: bool, id_dropout: float, touched: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("real", (torch.arange(len(features)) > 0).float()[:, None], persistent=False)  # [N + 1, 1], 0 on padding
        width = features.shape[1]
        # two kinds of features act together (a liked category at a low price), which a linear tower cannot say
        self.from_features = (
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dim + n_heads, bias=False)) if width else None
        )
        self.ids = nn.Parameter(torch.randn(features.shape[0], dim) * 0.1) if id_embedding else None
        self.id_bias = nn.Parameter(torch.zeros(features.shape[0], n_heads)) if self.ids is not None else None
        self.id_dropout = id_dropout if self.from_features is not None else 0.0
        self.dim, self.n_heads = dim, n_heads
        self.touched = touched and id_embedding
        self._searched: SearchedRows | None = None

    def searched_rows(self) -> SearchedRows:
        """All rows as they were when they were last renewed, but for those that were moved since."""
        if self._searched is None:
            self.renew()
        return cast(SearchedRows, self._searched)

    @torch.no_grad()
    def renew(self) -> None:
        """The present rows and their mean."""
        if self._searched is not None and self.from_features is None:
            self._searched.mean = self._searched.rows.sum(0) / max(len(self._searched.rows) - 1, 1)
            return
        weights = {} if self.from_features is None else {k: v.detach().clone() for k, v in self.from_features.named_parameters()}
        self._search_by(weights, None)

    def searched_state(self) -> dict[str, Tensor]:
        """What else than the ids decides `searched_rows`: the mean, and the weights from which the part of the features was made."""
        searched = self.searched_rows()
        return {"mean": searched.mean} | {f"features.{name}": weight for name, weight in searched.weights.items()}

    def restore_searched(self, state: dict[str, Tensor]) -> None:
        """The rows of `searched_state`, with the present ids."""
        self._search_by({name.removeprefix("features."): part for name, part in state.items() if name != "mean"}, state["mean"])

    @torch.no_grad()
    def _search_by(self, weights: dict[str, Tensor], mean: Tensor | None) -> None:
        part = None
        if self.from_features is not None:
            part = torch.func.functional_call(self.from_features, weights, (self.get_buffer("features"),))
        rows = (self._ids() if part is None else self._ids() + part) * self.get_buffer("real")
        self._searched = SearchedRows(rows, part, weights, mean)

    @torch.no_grad()
    def moved(self, items: Tensor) -> None:
        """The ids of these different items were trained."""
        if self._searched is not None:
            own = torch.cat([part.index_select(0, items) for part in (self.ids, self.id_bias) if part is not None], dim=1)
            self._searched.replace(items, own)

    def _ids(self) -> Tensor:
        return torch.cat([part for part in (self.ids, self.id_bias) if part is not None], dim=1)

    def forward(self, generator: torch.Generator | None = None) -> ItemTable | TouchedTable:
        """The table of all items; `generator` draws the id dropout in training mode."""
        if self.touched and self.training:
            return TouchedTable(self, generator)
        real, rows = self.get_buffer("real"), self.get_buffer("features").shape[0]
        parts: list[Tensor] = [] if self.from_features is None else [self.from_features(self.get_buffer("features"))]
        if self.ids is not None and self.id_bias is not None:
            own = self._ids()
            if self.training and self.id_dropout > 0:
                keep = torch.rand(rows, 1, generator=generator, device=own.device) >= self.id_dropout
                own = own * keep
            parts.append(own)
        if not parts:  # nothing is known of any item by itself
            alike = real.new_zeros(1, self.dim + self.n_heads).expand(rows, -1)
            return ItemTable(alike[:, : self.dim], alike)
        out = (parts[0] if len(parts) == 1 else parts[0] + parts[1]) * real
        centred = (out + out.sum(0, keepdim=True) * (-1 / max(rows - 1, 1))) * real  # minus on one row: its gradient is one row too
        return ItemTable(out[:, : self.dim].contiguous(), centred)
