"""The dataset directory: dataset.json, events.parquet, decisions.parquet, candidates.parquet, items.parquet,
users.parquet, perhaps excluded.parquet, rejects.csv. A reader finds a whole dataset or none (`qurate.files`).
"""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from qurate.errors import Code, MachineError, UserError
from qurate.events.features import Spec, feature_matrix
from qurate.events.schema import CANDIDATE
from qurate.events.vocabulary import Vocabulary
from qurate.facts import facts_table, shortened
from qurate.files import recover_directory, replacing_directory
from qurate.mdp.availability import read_availability
from qurate.mdp.decisions import SHOWN
from qurate.mdp.shortlists import Shortlists, asked_at
from qurate.outputs import DATASET, MODEL, check_directory
from qurate.types import Availability, EventArrays, FloatArray, Transitions

SCHEMA_VERSION = 2
"""1: items never end, and `n_available` stood with each decision. Still read."""
MANIFEST = DATASET
TABLES = ("events", "decisions", "candidates", "items", "users")
EXCLUDED = "excluded"
"""One table more where decisions could not show all that was available, in the order of the decisions."""


@dataclass(frozen=True, slots=True, repr=False)
class Dataset:
    """What training and evaluation read, made by `build_dataset` and kept in a directory.

    `items` and `users` are tables with one row per index (item i in row i - 1), in which the raw features stand.

    >>> dataset = qurate.build_dataset(log).write("dataset")
    >>> qurate.Dataset.read("dataset").kind
    'organic'
    """

    arrays: EventArrays
    transitions: Transitions
    vocabulary: Vocabulary
    items: pl.DataFrame  # item_id, available_from, available_until (see `availability`), features
    users: pl.DataFrame  # user_id, features
    item_features: FloatArray  # [N + 1, F], row 0 zeros
    item_spec: Spec
    user_features: FloatArray  # [U, U_dim]
    user_spec: Spec
    components: list[str]  # [R]
    weights: FloatArray  # [R]
    row_visit: NDArray[np.int32]  # [E] visit of each history row
    state_visit: NDArray[np.int32]  # [D] visit of each decision
    rejects: pl.DataFrame
    manifest: dict[str, Any]
    path: str | None = field(default=None, compare=False)  # absolute; None: in memory only
    lists: Shortlists | None = field(default=None, compare=False)  # what is offered where the catalogue is not; never written

    def __repr__(self) -> str:
        counts = {name: self.manifest["counts"][name] for name in ("events", "decisions", "users", "items")}
        return f"Dataset({self.kind}, {', '.join(f'{n} {name}' for name, n in counts.items())}, path={self.path!r})"

    def _repr_html_(self) -> str:
        counts = {name: int(n) for name, n in self.manifest["counts"].items()}
        rewards = shortened([f"{name} {weight:g}" for name, weight in zip(self.components, self.weights)], 8)
        more = {"rewards": rewards, "item features": int(self.item_features.shape[1]), "path": self.path}
        return facts_table("Dataset", {"kind": self.kind, **counts, **more})

    @property
    def user_ids(self) -> list[str]:
        """[U] text ids."""
        return self.users["user_id"].to_list()

    @property
    def kind(self) -> str:
        """organic | exposure | logged."""
        return str(self.manifest["kind"])

    def with_lists(self, late_s: float = 0.0) -> "Dataset":
        """The same with a shortlist at every decision in place of the catalogue (mdp/shortlists.py), `late_s` seconds late.

        What was shown is not counted, only what customers did: else a service would count its own choices.
        """
        late_us = round(late_s * 1e6)
        if self.lists is not None:
            return replace(self, lists=self.lists.late(late_us))
        done = self.arrays
        if SHOWN in self.vocabulary.types:
            shown = done.type == self.vocabulary.types.index(SHOWN) + 1
            done = replace(done, item=np.where(shown, 0, done.item).astype(np.int32))
        t, lists = self.transitions, Shortlists.of(done, self.row_visit, self.vocabulary.n_items, late_us)
        asked = asked_at(t.clock, t.history_end, t.user.astype(np.int64), self.arrays)
        return replace(self, lists=replace(lists, asked=asked))

    @property
    def sha256(self) -> str:
        """Digest of the dataset's manifest, which holds the digests of its files; "" before it was written."""
        return str(self.manifest.get("sha256", ""))

    @property
    def candidate_columns(self) -> tuple[str, ...]:
        """[G] what is known of each listed candidate at its decision; none in datasets of older versions."""
        return tuple(self.manifest.get("candidate_columns", ()))

    @property
    def n_ever_available(self) -> int:
        """Items 1..n were declared or seen in training; the others are unknown to any policy."""
        return int(self.manifest["n_ever_available"])

    @property
    def availability(self) -> Availability:
        """When each item may be shown, as far as the log and the items table say."""
        return read_availability(self.items, self.n_ever_available)

    @property
    def log_end(self) -> int:
        """Time of the last event or decision, microseconds."""
        return int(max(self.arrays.time.max(initial=0), self.transitions.clock.max(initial=0)))

    def write(self, path: str | Path, *, force: bool = False) -> "Dataset":
        """Write the directory; what is at `path` is replaced as one, or stays as it was.

        Args:
            path: a new one, or that of an earlier dataset.
            force: replace what is there even if it is no dataset.

        Returns:
            The dataset with the digests in its manifest and its place.

        Raises:
            UserError: `path` is a file, a directory that is not a dataset, or one with files besides the dataset's.
            MachineError: the disk is full or not writable; what was at `path` is unchanged.
        """
        return _write(self, Path(path), force)

    @classmethod
    def read(cls, path: str | Path) -> "Dataset":
        """Read a dataset directory.

        Raises:
            UserError: no dataset there, another schema version, a file missing, altered or truncated.
        """
        return _read(Path(path))


def _write(dataset: Dataset, path: Path, force: bool) -> Dataset:
    path = path.absolute()
    recover_directory(path)
    check_directory(path, DATASET, force)
    try:
        with replacing_directory(path) as beside:
            manifest = _write_files(dataset, beside)
    except (OSError, pl.exceptions.ComputeError) as error:
        hint = "what was there before is unchanged; free space or choose another -o"
        raise MachineError("a dataset on disk", str(error), where=str(path), hint=hint, code=Code.WRITE_FAILED) from None
    return replace(dataset, manifest=manifest, path=str(path))


def _write_files(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """Write every file of the dataset into an empty folder and return the manifest with its digests."""
    for name, table in _tables(dataset).items():
        table.write_parquet(folder / f"{name}.parquet", compression="zstd", compression_level=1, statistics=False)
    dataset.rejects.select("line", "reason", "raw").write_csv(folder / "rejects.csv")
    # The types and weights make the tables readable without the log.
    manifest = {**dataset.manifest, "types": list(dataset.vocabulary.types)}
    manifest["item_spec"], manifest["user_spec"] = dataset.item_spec, dataset.user_spec
    manifest["sha256_files"] = {file.name: _digest(file) for file in sorted(folder.iterdir())}
    manifest.pop("sha256", None)
    manifest["sha256"] = _manifest_digest(manifest)
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    return msgspec.json.decode(msgspec.json.encode(manifest), type=dict[str, Any])


def _read(path: Path) -> Dataset:
    recover_directory(path)
    manifest = _read_manifest(path)
    if manifest.get("schema_version") not in range(1, SCHEMA_VERSION + 1):
        got = str(manifest.get("schema_version"))
        raise UserError(
            f"dataset schema version {SCHEMA_VERSION} or older",
            got,
            where=str(path / MANIFEST),
            hint="ingest the log again",
            code=Code.SCHEMA_VERSION,
        )
    for name, digest in manifest["sha256_files"].items():
        file = path / name
        if not file.is_file() or _digest(file) != digest:
            got = "a missing file" if not file.is_file() else "an altered or truncated file"
            raise UserError("the file that was written", got, where=str(file), hint="ingest the log again", code=Code.ALTERED_DATASET)
    tables = {name: pl.read_parquet(path / f"{name}.parquet") for name in TABLES}
    if f"{EXCLUDED}.parquet" in manifest["sha256_files"]:
        tables[EXCLUDED] = pl.read_parquet(path / f"{EXCLUDED}.parquet")
    items, users = tables["items"], tables["users"]
    if manifest["schema_version"] == 1:  # what is read is of the present version, and so is what is written of it
        unknown = pl.Series("available_until", [None] * items.height, items["available_from"].dtype)
        items = items.insert_column(items.get_column_index("available_from") + 1, unknown)
        manifest["schema_version"] = SCHEMA_VERSION
    vocabulary = Vocabulary(tuple(items["item_id"].to_list()), tuple(manifest["types"]))
    item_features, _ = feature_matrix(items.drop("available_from", "available_until"), manifest["item_spec"])
    user_features, _ = feature_matrix(users, manifest["user_spec"])
    components = list(manifest["rewards"])
    transitions, state_visit = _transitions(tables["decisions"], tables["candidates"], tables.get(EXCLUDED), components)
    events = tables["events"]
    start = np.concatenate([[0], np.cumsum(np.bincount(events["user"].to_numpy(), minlength=users.height))]).astype(np.int64)
    return Dataset(
        arrays=EventArrays(
            item=_column(events, "item"),
            type=_column(events, "type"),
            time=_column(events, "time"),
            value=_column(events, "value"),
            user_start=start,
        ),
        transitions=transitions,
        vocabulary=vocabulary,
        items=items,
        users=users,
        item_features=np.concatenate([np.zeros((1, item_features.shape[1]), np.float32), item_features]),
        item_spec=manifest["item_spec"],
        user_features=user_features,
        user_spec=manifest["user_spec"],
        components=components,
        weights=np.array([reward["weight"] for reward in manifest["rewards"].values()], np.float32),
        row_visit=_column(events, "visit"),
        state_visit=state_visit,
        rejects=pl.read_csv(path / "rejects.csv", schema_overrides={"line": pl.UInt64, "reason": pl.String, "raw": pl.String}),
        manifest=manifest,
        path=str(path.absolute()),
    )


def _tables(dataset: Dataset) -> dict[str, pl.DataFrame]:
    """Numbers, not text: item 0 is none, types and users count in the order of the manifest and users.parquet."""
    arrays, steps = dataset.arrays, dataset.transitions
    user = np.repeat(np.arange(len(arrays.user_start) - 1, dtype=np.int32), np.diff(arrays.user_start))
    events = {"user": user, "item": arrays.item, "type": arrays.type, "time": arrays.time, "value": arrays.value}
    sizes = np.diff(steps.candidates_start).astype(np.int32)
    per_state: dict[str, NDArray[Any]] = {"user": steps.user, "hi": steps.history_end, "clock": steps.clock}
    per_state |= {"split": steps.split, "visit": dataset.state_visit, "n_candidates": sizes}
    if len(steps.excluded):
        per_state["n_excluded"] = np.diff(steps.excluded_start).astype(np.int32)
    per_item = {
        "action": steps.action,
        "pause": steps.pause,
        "next_state": steps.next_state,
        "end": steps.end,
        "propensity": steps.propensity,
    }
    rewards = {f"reward_{name}": steps.reward[:, i] for i, name in enumerate(dataset.components)}
    one = len(steps.state) == len(steps.history_end)  # one item per decision: nothing to repeat
    repeated = per_state if one else {name: column[steps.state] for name, column in per_state.items()}
    return {
        "events": pl.DataFrame({**events, "visit": dataset.row_visit}),
        "decisions": pl.DataFrame({"state": steps.state, **repeated, **per_item, **rewards}),
        "candidates": pl.DataFrame(
            {"item": steps.candidates}
            | {CANDIDATE + name: steps.candidate_values[:, g] for g, name in enumerate(dataset.candidate_columns)}
        ),
        "items": dataset.items,
        "users": dataset.users,
        **({EXCLUDED: pl.DataFrame({"item": steps.excluded})} if len(steps.excluded) else {}),
    }


def _transitions(
    table: pl.DataFrame, pool: pl.DataFrame, excluded: pl.DataFrame | None, components: list[str]
) -> tuple[Transitions, NDArray[np.int32]]:
    """Transitions from decisions.parquet (one row per shown item) and the visit of each decision."""
    state = _column(table, "state")
    first = np.flatnonzero(np.diff(state, prepend=-1))
    one = len(first) == len(state)

    def of_state(name: str) -> Any:
        column = _column(table, name)
        return column if one else column[first]

    reward = np.empty((len(state), len(components)), np.float32)
    for i, name in enumerate(components):
        reward[:, i] = table[f"reward_{name}"].to_numpy()
    start: NDArray[np.int64] = np.broadcast_to(np.int64(0), len(first) + 1)  # no lists: no memory
    if pool.height:
        start = np.concatenate([[0], np.cumsum(of_state("n_candidates"), dtype=np.int64)])
    transitions = Transitions(
        user=of_state("user"),
        history_end=of_state("hi"),
        clock=of_state("clock"),
        candidates=_column(pool, "item"),
        candidates_start=start,
        candidate_values=pool.drop("item").to_numpy().astype(np.float32).reshape(pool.height, len(pool.columns) - 1),
        split=of_state("split"),
        state=state,
        action=_column(table, "action"),
        reward=reward,
        pause=_column(table, "pause"),
        next_state=_column(table, "next_state"),
        end=_column(table, "end"),
        propensity=_column(table, "propensity"),
    )
    if excluded is not None:
        start = np.concatenate([[0], np.cumsum(of_state("n_excluded"), dtype=np.int64)])
        transitions = replace(transitions, excluded=_column(excluded, "item"), excluded_start=start)
    return transitions, of_state("visit")


def _column(table: pl.DataFrame, name: str) -> Any:
    return np.ascontiguousarray(table[name].to_numpy())


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.is_file():
        got = "no such path" if not path.exists() else "a directory without dataset.json" if path.is_dir() else "a file"
        got = "a model" if (path / MODEL).is_file() else got
        hint = "make one with qurate ingest LOG -o DATASET"
        raise UserError("a dataset directory", got, where=str(path), hint=hint, code=Code.NOT_A_DATASET)
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        intact = manifest.get("sha256") == _manifest_digest({k: v for k, v in manifest.items() if k != "sha256"})
    except (msgspec.DecodeError, UnicodeDecodeError):
        intact = False
    except OSError as error:
        raise MachineError(
            "a readable dataset.json", str(error), where=str(file), hint="check the permissions", code=Code.UNREADABLE
        ) from None
    if not intact:
        raise UserError(
            "the dataset.json that was written",
            "an altered or truncated file",
            where=str(file),
            hint="ingest the log again",
            code=Code.ALTERED_DATASET,
        )
    return manifest


def _manifest_digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(manifest, order="sorted")).hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
