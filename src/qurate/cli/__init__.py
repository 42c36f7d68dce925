"""What a person types."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. See `cli/app.py`, which is imported only when a command runs."""
    from qurate.cli.app import main as run

    return run(argv)
