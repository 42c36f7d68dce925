"""A rating matrix without gaps: drawn by a seed, or completed from the ratings of a file.

A completed rating is mean + user's offset + item's offset + what singular vectors of the rest say. Offsets are shrunk means (Koren, Bell,
Volinsky 2009, doi:10.1109/MC.2009.263); the rest is completed by iterated singular value decomposition, each time of the matrix whose gaps
hold the last answer, with softened singular values (soft-impute: Mazumder, Hastie, Tibshirani 2010), by `torch.svd_lowrank`.
"""

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.errors import Code, UserError
from qurate.types import FloatArray

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

USERS, ITEMS, RATINGS = (
    ("user_id", "userId", "user"),
    ("item_id", "movieId", "itemId", "video_id", "item"),
    ("rating", "watch_ratio", "value"),
)
CATEGORIES = ("category", "genres")
MOST_USERS = 2_000
"""Users of a file that become customers: those with most ratings."""
LEAST_RATINGS = 200
RANK, ROUNDS, SHRINK_USER, SHRINK_ITEM = 10, 12, 10.0, 5.0
SOFTEN = (0.0, 2.0, 5.0, 10.0, 20.0)
"""What is taken from the singular values, in units of the ratings: chosen on half of the held-out ratings."""
N_USERS, N_CATEGORIES, DIM = 1_000, 20, 8
HELD_OUT, NEAREST = 0.1, 0.05


@dataclass(frozen=True)
class RatingMatrix:
    """Ratings of all users for all items, and which items are alike."""

    ratings: FloatArray  # [V, N]
    alike: NDArray[np.bool_]  # [N + 1, N + 1], entry 0 False
    item_ids: list[str]
    categories: list[str] | None  # [N] text, "|" between several; None: alike are those with the nearest vectors
    figures: dict[str, Any]  # how well it was completed


def drawn_matrix(n_items: int, seed: int) -> RatingMatrix:
    """1,000 users and `n_items` items of 20 categories: 3 + offsets + taste . item, cut to 1 to 5; items of a category are near."""
    rng = np.random.default_rng([seed, 11])
    category = rng.permutation(n_items) % N_CATEGORIES
    centre = rng.normal(size=(N_CATEGORIES, DIM))
    items = centre[category] + 0.5 * rng.normal(size=(n_items, DIM))
    users = rng.normal(size=(N_USERS, DIM)) * 0.9 / np.sqrt(DIM)
    ratings = 3 + 0.3 * rng.normal(size=(N_USERS, 1)) + 0.3 * rng.normal(size=n_items) + users @ items.T
    width = len(str(n_items))
    names = [f"c{int(i):02d}" for i in category]
    ids = [f"item_{i:0{width}d}" for i in range(1, n_items + 1)]
    return RatingMatrix(np.clip(ratings, 1, 5).astype(np.float32), _share(names), ids, names, {})


@lru_cache(maxsize=4)
def completed_matrix(path: str, n_items: int) -> RatingMatrix:
    """The matrix of the `n_items` most rated items (all, where there are fewer) and the 2,000 users with most ratings of a file.

    Raises:
        UserError: no table with users, items and ratings, one item or one user alone, too few ratings, or some that are not finite.
    """
    table = _read(path)
    counts = table.group_by("item").len().sort(["len", "item"], descending=[True, False]).head(n_items)
    table = table.join(counts.select("item"), on="item")
    people = table.group_by("user").len().sort(["len", "user"], descending=[True, False]).head(MOST_USERS)
    table = table.join(people.select("user"), on="user").unique(["user", "item"], keep="last", maintain_order=True)
    items, users = sorted(counts["item"].to_list()), sorted(people["user"].to_list())
    for what, found in (("items", len(items)), ("users", len(users))):
        if found < 2:
            raise UserError(f"a matrix of at least 2 {what}", str(found), where=path, hint="give more ratings", code=Code.BAD_MATRIX)
    if table.height < LEAST_RATINGS:
        expected = f"at least {LEAST_RATINGS} ratings to complete a matrix from"
        raise UserError(expected, f"{table.height:,}", where=path, hint="give more ratings", code=Code.TOO_FEW_ROWS)
    row, column = (np.searchsorted(names, table[key].to_numpy()) for names, key in ((users, "user"), (items, "item")))
    ratings, vectors, figures = complete(row, column, table["rating"].to_numpy(), len(users), len(items))
    log.warning("note: %s: %d x %d ratings completed from %s; held-out root mean squared error %.3f (offsets alone %.3f)",
                path, len(users), len(items), f"{table.height:,}", figures["rmse"], figures["rmse_offsets"])  # fmt: skip
    categories = None
    if "category" in table.columns:
        of_item = dict(table.group_by("item").agg(pl.col("category").first()).iter_rows())
        categories = [str(of_item[item] or "") for item in items]
    return RatingMatrix(ratings, _near(vectors) if categories is None else _share(categories), items, categories, figures)


def complete(
    row: NDArray[np.int64], column: NDArray[np.int64], rating: Floats, n_users: int, n_items: int
) -> tuple[FloatArray, Floats, dict[str, float]]:  # fmt: skip
    """All ratings [V, N], item vectors [N, RANK], and the held-out errors of 10 % of the ratings, half of which chose the softening.

    Args:
        row, column, rating: [T] of the known ones.
    """
    luck = np.random.default_rng(0).random(len(rating))
    held, chooses = luck < HELD_OUT, luck < HELD_OUT / 2
    known, judged = ~held, held & ~chooses
    offsets = _offsets(row[known], column[known], rating[known], n_users, n_items)
    errors = []
    for soften in SOFTEN:
        rest, _ = _rest(row[known], column[known], rating[known], offsets, soften)
        errors.append((offsets + rest)[row[held], column[held]] - rating[held])
    best = int(np.argmin([np.mean(error[chooses[held]] ** 2) for error in errors]))
    plain = (offsets[row, column] - rating)[judged]
    figures = {"rmse": _rms(errors[best][judged[held]]), "rmse_offsets": _rms(plain), "soften": SOFTEN[best], "ratings": float(len(rating))}
    offsets = _offsets(row, column, rating, n_users, n_items)
    rest, vectors = _rest(row, column, rating, offsets, SOFTEN[best])
    return np.clip(offsets + rest, rating.min(), rating.max()).astype(np.float32), vectors, figures


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _offsets(row: NDArray[np.int64], column: NDArray[np.int64], rating: Floats, n_users: int, n_items: int) -> Floats:
    """Mean and shrunk offsets of items, then of users, [V, N]."""
    mean = rating.mean()
    item = np.bincount(column, rating - mean, n_items) / (np.bincount(column, minlength=n_items) + SHRINK_ITEM)
    user = np.bincount(row, rating - mean - item[column], n_users) / (np.bincount(row, minlength=n_users) + SHRINK_USER)
    out: Floats = mean + user[:, None] + item
    return out


def _rest(row: NDArray[np.int64], column: NDArray[np.int64], rating: Floats, offsets: Floats, soften: float) -> tuple[Floats, Floats]:
    """What is left of the ratings, completed [V, N], and the items' vectors [N, RANK]."""
    import torch

    rank = min(RANK, *offsets.shape)
    left = rating - offsets[row, column]
    answer = np.zeros(offsets.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(ROUNDS):
            filled = answer.copy()
            filled[row, column] = left
            u, s, v = (part.numpy() for part in torch.svd_lowrank(torch.from_numpy(filled), rank))
            s = np.maximum(s - soften, 0)
            answer = (u * s) @ v.T
    return answer, v * np.sqrt(s)


def _share(categories: list[str]) -> NDArray[np.bool_]:
    """Which items share a category, [N + 1, N + 1]."""
    parts = [set(text.split("|")) - {""} for text in categories]
    names = sorted(set().union(*parts))
    has = np.zeros((len(parts) + 1, len(names)), np.float32)
    for i, own in enumerate(parts):
        has[i + 1, [names.index(name) for name in own]] = 1
    out: NDArray[np.bool_] = has @ has.T > 0
    return out


def _near(vectors: Floats) -> NDArray[np.bool_]:
    """Which items have vectors among the nearest twentieth of the other's, or are the same one, [N + 1, N + 1]; symmetric."""
    n, length = len(vectors), np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, np.inf)
    k = max(1, round(NEAREST * n))
    limit = np.partition(likeness, n - k, axis=1)[:, n - k]
    out = np.zeros((n + 1, n + 1), np.bool_)
    out[1:, 1:] = (likeness >= limit[:, None]) | (likeness >= limit)
    return out


def _read(path: str) -> pl.DataFrame:
    """The table's user, item, rating and perhaps category."""
    file = Path(path)
    readers: dict[str, Any] = {".parquet": pl.read_parquet, ".csv": pl.read_csv}
    if not file.is_file() or file.suffix not in readers:
        got = "no such file" if not file.exists() else "another kind of file"
        raise UserError("a .parquet or .csv file of ratings", got, where=path, hint="one row a rating", code=Code.NO_SUCH_FILE)
    try:
        table = readers[file.suffix](file)
    except (OSError, pl.exceptions.PolarsError) as error:
        got = str(error).splitlines()[0]
        raise UserError("a readable table of ratings", got, where=path, hint="is it whole?", code=Code.UNREADABLE_FILE) from None
    found = {}
    for role, names in (("user", USERS), ("item", ITEMS), ("rating", RATINGS), ("category", CATEGORIES)):
        found[role] = next((name for name in names if name in table.columns), None)
        if found[role] is None and role != "category":
            got, hint = ", ".join(table.columns[:8]) or "no columns", "rename the column"
            raise UserError(f"a column {' or '.join(names)}", got, where=path, hint=hint, code=Code.MISSING_COLUMN)
    table = table.select(pl.col(name).alias(role) for role, name in found.items() if name is not None)
    rating = table["rating"].cast(pl.Float64, strict=False)
    if rating.is_null().any() or not rating.is_finite().all():
        raise UserError("finite numbers in the column of ratings", "others", where=path, hint="remove those rows", code=Code.BAD_VALUE)
    known: pl.DataFrame = table.with_columns(pl.col("user", "item").cast(pl.String), rating=rating).drop_nulls(["user", "item"])
    return known
