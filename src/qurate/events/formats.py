"""Files of other formats than are read: what they are, and how a log is had from them, for the hint of an error."""

import json
import re
import shlex
from pathlib import Path

from qurate.errors import Code, UserError

HEAD = 600
TAR_AT = 257
"""Where the word `ustar` stands in the first block of a tar archive."""

EXCEL = "a workbook", "save its sheet as CSV"
PICKLE = "Python's pickle", "read it with what wrote it, and write the table with to_parquet"
ARROW = "Arrow data", 'write it as Parquet: python -c \'import polars as pl; pl.read_ipc("FILE").write_parquet("log.parquet")\''
DATABASE = "a database", "export the table as CSV: sqlite3 -header -csv FILE 'select * from TABLE' > log.csv"
ARRAYS = "arrays of numpy or HDF5", "write the table with pandas as Parquet: frame.to_parquet"
COLUMNS = "Avro or ORC data", "write it as Parquet with what wrote it"
MARKUP = "XML or HTML", "write one row for each event into a CSV file"
SQL = "statements of SQL", "load them into a database, and export the table as CSV"
TAR = "a tar archive", "unpack it: tar -xf FILE"

BY_SUFFIX: dict[str, tuple[str, str]] = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), EXCEL),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), PICKLE),
    **dict.fromkeys((".feather", ".arrow", ".ipc"), ARROW),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), DATABASE),
    **dict.fromkeys((".npy", ".npz", ".h5", ".hdf5", ".mat"), ARRAYS),
    **dict.fromkeys((".avro", ".orc"), COLUMNS),
    **dict.fromkeys((".xml", ".html", ".htm"), MARKUP),
    ".sql": SQL,
    **dict.fromkeys((".tar", ".tgz"), TAR),
}
BY_START: tuple[tuple[bytes, tuple[str, str]], ...] = (
    (b"PAR1", ("Parquet data", "rename it: its name must end in .parquet")),
    (b"ARROW1", ARROW),
    (b"SQLite format 3", DATABASE),
    (b"\x89HDF", ARRAYS),
    (b"\x93NUMPY", ARRAYS),
    (b"Obj\x01", COLUMNS),
    (b"\xd0\xcf\x11\xe0", EXCEL),
    (b"%PDF", ("a PDF", "write the table as CSV")),
    (b"\x1f\x8b", ("gzip data within gzip", "unpack it once")),
    (b"PK\x03\x04", ("an archive within an archive", "unpack it once")),
)
PICKLED = re.compile(rb"\x80[\x02-\x05][\x95(}\]c]")
TAGS = re.compile(rb"\s*<(\?xml|!doctype|html|table)", re.IGNORECASE)
STATEMENTS = re.compile(rb"\s*(INSERT INTO|CREATE TABLE|DROP TABLE|-- (MySQL|MariaDB|PostgreSQL|phpMyAdmin)|/\*!)", re.IGNORECASE)
WORKBOOK = ("xl/workbook.xml", "content.xml")
"""A member of the archive that a workbook is."""


def refuse_other_formats(plain: Path, shown: str) -> None:
    """
    Args:
        plain: what is read, unpacked. shown: the file as the user knows it.

    Raises:
        UserError: it begins as a file of another format does.
    """
    with plain.open("rb") as file:
        head = file.read(HEAD)
    found = next((said for start, said in BY_START if head.startswith(start)), None)
    found = found or (TAR if head[TAR_AT : TAR_AT + 5] == b"ustar" else None)
    for pattern, said in ((PICKLED, PICKLE), (TAGS, MARKUP), (STATEMENTS, SQL)):
        found = found or (said if pattern.match(head) else None)
    if found is not None:
        got, hint = found
        raise UserError("text, JSON or Parquet", got, where=shown, hint=hint.replace("FILE", shown), code=Code.UNREADABLE_FILE)


def refuse_table_formats(folder: Path) -> None:
    """
    Raises:
        UserError: the folder is a table whose own log says which of its files count.
    """
    kinds = (
        ("Delta Lake", "_delta_log", "read_delta"),
        ("Apache Iceberg", "metadata/*.metadata.json", "scan_iceberg"),
        ("Apache Hudi", ".hoodie", ""),
    )
    for name, inside, reader in kinds:
        found = next(folder.glob(f"**/{inside}"), None)
        if found is None:
            continue
        table = found.parent.parent if reader == "scan_iceberg" else found.parent
        collected = ".collect()" if reader.startswith("scan") else ""
        code = f'import polars as pl; pl.{reader}({json.dumps(str(table), ensure_ascii=False)}){collected}.write_parquet("log.parquet")'
        hint = "write what the table holds now as Parquet" + (f": python -c {shlex.quote(code)}" if reader else " with what wrote it")
        got = f"a table of {name}, of whose files only some count"
        raise UserError("a folder of plain files", got, where=str(table), hint=hint, code=Code.UNREADABLE_FILE)
