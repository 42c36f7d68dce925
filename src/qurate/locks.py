"""File locks that die with their process: POSIX `flock`, on Linux and macOS."""

import os
import sys

from qurate.errors import Code, MachineError, UserError

try:
    import fcntl

    HAS_LOCKS = True
except ImportError:  # Windows
    HAS_LOCKS = False


def require_posix() -> None:
    """Nothing on a system that has what models and stores rely on.

    Raises:
        UserError: code bad_system, elsewhere: a command says so before it does any work.
    """
    if not HAS_LOCKS:
        hint = "use WSL or a container on Windows"
        raise UserError(
            "Linux or macOS (models and stores need POSIX file locks)", f"{sys.platform} without fcntl", hint=hint, code=Code.BAD_SYSTEM
        )


def try_lock(descriptor: int) -> bool:
    """Locks an open file or directory for this process; False where another one holds it.

    Raises:
        UserError: code bad_system, see `require_posix`.
        MachineError: code data_dir, where the file system has no locks.
    """
    require_posix()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        got = error.strerror or "an error"
        raise MachineError("a file system with locks", got, hint="choose a local directory", code=Code.DATA_DIR) from None
    return True


def owner_of(path: str | os.PathLike[str]) -> str:
    """The process id that the holder of a lock file wrote into it, as text."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(32).strip() or "unknown"
    except OSError:
        return "unknown"
