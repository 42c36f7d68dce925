"""What every figure of `qurate bench` is made of: turns of a loop, and rows of the result."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

Row = dict[str, Any]


class Work(NamedTuple):
    """What one unit of a row (an update, a transition) cannot do without."""

    flops: float  # of its matrix products, counted by `torch.utils.flop_counter`
    bytes: float  # of what it reads and writes once, were all that lies between kept in the cache


def row(name: str, value: float | None, unit: str, aim: str | None = None, note: str = "") -> Row:
    """One line of the result; `aim` such as ">= 1000000" in the same unit, `value` None = not measured, the note says why."""
    return {"name": name, "value": value, "unit": unit, "aim": aim, "note": note}


def flops_of(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products of one call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def bytes_of(arrays: Any) -> int:
    """Bytes of a nested tuple of arrays or tensors."""
    return sum(map(bytes_of, arrays)) if isinstance(arrays, tuple) else getattr(arrays, "nbytes", 0)


def turns(work: Callable[[], object], calls: int, seconds: float, clock: Callable[[], float] = time.process_time) -> list[float]:
    """Seconds per call, over turns of `calls` calls, for about `seconds` after a first turn that does not count."""
    out: list[float] = []
    until = time.perf_counter() + seconds
    while len(out) < 4 or time.perf_counter() < until:
        start = clock()
        for _ in range(calls):
            work()
        out.append((clock() - start) / calls)
    return out[1:]


def rate(
    name: str, unit: str, aim: str | None, per_call: int, taken: Sequence[float], note: str = "", *, work: Work | None = None
) -> Row:  # fmt: skip
    """A row of so many things per second, from the seconds per call; `work` is that of one call."""
    best = f"best {per_call / min(taken):,.0f}"
    line = row(name, round(per_call / float(np.median(taken)), 1), unit, aim, f"{note}; {best}" if note else best)
    return line if work is None else line | {"work": Work(work.flops / per_call, work.bytes / per_call)}
