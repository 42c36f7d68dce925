"""The exception tree: one line says what was expected, what came, where, and what to do.

Exit codes (contract): a `UserError` ends a command with 2, a `MachineError` with 1.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class QurateError(Exception):
    """Base of all errors qurate raises on purpose.

    Args:
        expected: what should have been there.
        got: what was there.
        where: file, row, field or option.
        hint: what the reader can do about it.
        code: short machine-readable name, printed with `--json` and in problem+json.
    """

    exit_code = 1

    def __init__(self, expected: str, got: str, where: str = "", hint: str = "", code: str = "error") -> None:
        self.expected, self.got, self.where, self.hint, self.code = expected, got, where, hint, code
        line = f"expected {expected}, got {got}"
        line += f", at {where}" if where else ""
        line += f"; {hint}" if hint else ""
        super().__init__(" ".join(line.split()))

    def to_dict(self) -> dict[str, str]:
        """The `error` object of `--json`: {"code", "message", "where", "hint"}."""
        return {"code": self.code, "message": str(self), "where": self.where, "hint": self.hint}


class UserError(QurateError):
    """The user's mistake: exit code 2."""

    exit_code = 2


class MachineError(QurateError):
    """The machine failed (disk full, unreadable file, port taken): exit code 1."""

    exit_code = 1


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known name, or all of them when none is near."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
