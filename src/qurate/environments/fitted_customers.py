"""Customers learned from a log, as a directory of their own: what `training/fit_customers.py` writes and the world `fitted` reads.

customers.json           format, versions, names of types and rewards, where they come from, sha256 of every file
parameters.safetensors   the arrays of `customer_response.Response` and of `scenarios/fitted.py`
items.parquet            the catalogue of the log
validity.json            how far these customers may be trusted (`evaluation/customer_validity.py`)
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from qurate.errors import Code, MachineError, UserError
from qurate.files import recover_directory, replacing_directory, write_file
from qurate.outputs import CUSTOMERS, DATASET, check_directory

FORMAT = 1
PARAMETERS, ITEMS, VALIDITY = "parameters.safetensors", "items.parquet", "validity.json"
HOW = "make one with qurate customers DATASET -o CUSTOMERS"

Arrays = Mapping[str, NDArray[Any]]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `customers.json` says beside the digests."""

    format: int = FORMAT
    qurate: str
    dataset_sha256: str
    kind: str  # of the log: organic | exposure | logged
    item_ids: list[str]
    type_names: list[str]  # what customers do, alphabetically, and "shown"
    events: list[str]  # [R] rewarded event types, which the response is about
    per_value: list[bool]  # [R] whether a reward counts the event's value
    components: list[str]  # [C] the rewards: the events, perhaps no_response and leave
    weights: list[float]  # [C]
    feature_names: list[str]
    user_feature_names: list[str]
    window: int  # events of history that a response looks at
    returns: bool  # whether customers come back after a visit
    figures: dict[str, Any]  # of the fit


@dataclass(frozen=True)
class Customers:
    """Customers as they stand in a directory; `path` is None in memory alone."""

    facts: Facts
    arrays: Arrays
    items: pl.DataFrame | None = None  # None: not read yet
    validity: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def items_table(self) -> pl.DataFrame:
        """The catalogue, read when somebody asks for it: polars must stay untouched in forked processes."""
        if self.items is not None:
            return self.items
        assert self.path is not None
        return pl.read_parquet(self.path / ITEMS)


def write_customers(customers: Customers, path: str | Path, *, force: bool = False) -> Customers:
    """Writes the directory, whole or not at all.

    Raises:
        UserError: something else is at `path`. MachineError: it cannot be written.
    """
    place = Path(path).absolute()
    recover_directory(place)
    check_directory(place, CUSTOMERS, force)
    try:
        with replacing_directory(place) as beside:
            write_file(beside / PARAMETERS, save_arrays({name: np.ascontiguousarray(x) for name, x in customers.arrays.items()}))
            customers.items_table().write_parquet(beside / ITEMS, compression="zstd", statistics=False)
            write_file(beside / VALIDITY, msgspec.json.format(msgspec.json.encode(customers.validity), indent=1) + b"\n")
            files = {file.name: {"sha256": _digest(file), "bytes": file.stat().st_size} for file in sorted(beside.iterdir())}
            manifest = msgspec.to_builtins(customers.facts) | {"files": files}
            write_file(beside / CUSTOMERS, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    except (OSError, pl.exceptions.ComputeError) as error:
        hint = "what was there before is unchanged; free space or choose another -o"
        raise MachineError("customers on disk", str(error), where=str(place), hint=hint, code=Code.WRITE_FAILED) from None
    return replace(customers, path=place)


def read_customers(path: str | Path) -> Customers:
    """Reads a directory of customers; its catalogue is read when it is asked for.

    Raises:
        UserError: none is there, another format, or a file that was altered.
    """
    place = Path(path).absolute()
    recover_directory(place)
    manifest = place / CUSTOMERS
    if not manifest.is_file():
        got = "no such path" if not place.exists() else "a dataset" if (place / DATASET).is_file() else "something else"
        hint = f"qurate customers {path} -o CUSTOMERS fits some to it" if got == "a dataset" else HOW
        raise UserError("a directory of customers", got, where=str(path), hint=hint, code=Code.NOT_CUSTOMERS)
    try:
        content = msgspec.json.decode(manifest.read_bytes(), type=dict[str, Any])
        if content.get("format") != FORMAT:
            got = str(content.get("format"))
            raise UserError(f"customers of format {FORMAT}", got, where=str(manifest), hint="fit them again", code=Code.OTHER_FORMAT)
        for name, known in content.pop("files").items():
            if _digest(place / name) != known["sha256"]:
                raise ValueError(name)
        facts = msgspec.convert(content, Facts)
        arrays = load_arrays((place / PARAMETERS).read_bytes())
        validity = msgspec.json.decode((place / VALIDITY).read_bytes(), type=dict[str, Any])
    except (OSError, ValueError, KeyError, TypeError, msgspec.DecodeError, msgspec.ValidationError, SafetensorError) as error:
        got, hint = f"altered or missing files ({error})", f"fit them again: {HOW}"
        raise UserError("the customers that were written", got, where=str(path), hint=hint, code=Code.ALTERED_CUSTOMERS) from None
    return Customers(facts, arrays, None, validity, place)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
