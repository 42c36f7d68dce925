"""Ctrl-C that is remembered: a library that is being imported may swallow the KeyboardInterrupt, and fail later in its own way."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_pressed: list[int] = []


def _remember(number: int, frame: FrameType | None) -> None:
    _pressed.append(number)
    signal.default_int_handler(number, frame)


def is_ours() -> bool:
    """Whether Ctrl-C raises KeyboardInterrupt here and now: in the main thread, with Python's handler or that of `remembered`."""
    here = threading.current_thread() is threading.main_thread()
    return here and signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _remember)


@contextmanager
def remembered() -> Generator[list[int], None, None]:
    """Inside, the list has an entry for each Ctrl-C, which also raises KeyboardInterrupt; where somebody else handles it, none."""
    _pressed.clear()
    before = signal.getsignal(signal.SIGINT)
    if not is_ours():
        yield _pressed
        return
    signal.signal(signal.SIGINT, _remember)
    try:
        yield _pressed
    finally:
        signal.signal(signal.SIGINT, before)
