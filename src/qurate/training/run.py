"""A training run: how long it goes on, what it measures, and how it stops."""

import logging
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import torch

from qurate.errors import Code, UserError
from qurate.interrupts import is_ours
from qurate.learning.loops import Progress
from qurate.settings import LearningSettings, Settings
from qurate.types import FloatArray

log = logging.getLogger("qurate.training")

StepCallback = Callable[[int, int, dict[str, float]], None]
"""Called now and then with (steps done, steps wanted, the figures of the curve's last point, none before the first)."""

CURVE_POINTS = 100
REPORT_SECONDS = 1.0
"""A hundredth of a long run takes minutes; in between it is said how far the run is."""
DIVERGED_SHARE, DIVERGED_LEAST = 0.1, 3
"""A run of which a larger share of the updates, and more than so many, were skipped has not learned what it was to."""
LARGE_LR, LARGE_WEIGHT = 0.1, 1e6
"""Beyond them the step size, or the rewards, is the likely cause."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a run ends."""

    steps: int | None  # updates (log) or decisions (environment); None = a default by size
    budget: float | None = None  # seconds


class Run(msgspec.Struct):
    """Counters and figures of a run; with the learner and the replay they are its checkpoint."""

    steps: int = 0
    curve: list[dict[str, float]] = []
    recent: list[tuple[float, float, float | None]] = []  # loss, Q and reward of the updates since the curve's last point
    returns: list[float] = []  # of the episodes that ended since the curve's last point
    trained: float = 0.0  # seconds, in all
    alarms: float = 0  # updates with a |Q| larger than rewards allow
    updates: int = 0  # those without a step too
    skipped: int = 0  # updates without a step, because loss or gradient were not finite


def consume(loop: Iterator[Progress], run: Run, wanted: int, budget: float | None, report: StepCallback | None) -> dict[str, Any]:
    """Runs a loop until `wanted` steps, the budget or Ctrl-C, always between two of its steps; the figures of the run."""
    began, stopped, every, start, before = time.monotonic(), "steps", max(1, wanted // CURVE_POINTS), run.steps, run.trained
    next_point, last_time, reported = (start // every + 1) * every, began, began
    pause = float("inf") if budget is None else budget / CURVE_POINTS  # a budget may end a run long before its steps
    with noticed_ctrl_c() as pressed:
        for step in loop if start < wanted else islice(loop, 0):
            run.steps, now = start + step.steps, time.monotonic()
            run.trained = before + now - began
            run.returns.extend(step.returns)
            for update in step.updates:
                _note(run, update.loss, update.stats, step.reward)
            if (run.steps >= next_point or now - last_time > pause) and run.recent:
                run.curve.append({"step": run.steps} | _means(run.recent) | _episodes(run))
                run.recent, run.returns, next_point, last_time = [], [], (run.steps // every + 1) * every, now
                reported = 0.0
            if report is not None and now - reported > REPORT_SECONDS:
                report(run.steps, wanted, run.curve[-1] if run.curve else {})
                reported = now
            if run.steps >= wanted:
                break
            if pressed():
                stopped = "interrupted"
                log.warning("Ctrl-C noticed after step %s; once more stops at once, without what is still to be written", f"{run.steps:,}")
                break
            if budget is not None and now - began > budget:
                stopped = "budget"
                break
    figures = {"steps": run.steps, "stopped": stopped, "seconds": round(time.monotonic() - began, 2)}
    return figures | {"alarms": run.alarms, "updates": run.updates, "skipped": run.skipped, "curve": run.curve}


def refuse_interrupted(metrics: Mapping[str, Any]) -> None:
    """Ctrl-C ends a run early and keeps what it has learned. Where the run is a part of something longer, that ends too: a baseline
    that was cut short would lose without reason.

    Raises:
        KeyboardInterrupt: the run was interrupted.
    """
    if metrics.get("stopped") == "interrupted":
        raise KeyboardInterrupt


def refuse_divergence(metrics: Mapping[str, Any], settings: Settings, weights: FloatArray) -> None:
    """Refuses a run whose losses or gradients were not finite, and names the likely cause.

    Args:
        metrics: what `consume` gave. settings: of the run. weights: float32 [R] of the reward components.

    Raises:
        UserError: more than a few updates had no finite loss or gradient.
    """
    updates, skipped = metrics.get("updates", 0), metrics.get("skipped", 0)
    if skipped <= max(DIVERGED_SHARE * updates, DIVERGED_LEAST):
        return
    lr, largest = settings.learning.lr, float(np.abs(weights).max(initial=0.0))
    where, cause = f"--set lr={lr:g}", f"with lr={lr:g}"
    hint = f"use a smaller lr (the default is {LearningSettings().lr:g})"
    if lr <= LARGE_LR and largest >= LARGE_WEIGHT:
        where, cause = "--rewards", f"with a reward weight of {largest:g}"
        hint = "only the ratios of the weights matter: divide all of them"
    elif lr <= LARGE_LR:
        hint = "use a smaller lr or target_tau, loss=huber, or a cap on values (--rewards of `qurate ingest`)"
    last = f"; the last finite loss was {metrics['curve'][-1]['loss']:.4g}" if metrics.get("curve") else ""
    got = f"{skipped:,} of {updates:,} updates skipped because the loss or its gradient was not finite, {cause}{last}"
    raise UserError("a training run that converges", got, where=where, hint=f"{hint}; nothing was written", code=Code.DIVERGED)


def _note(run: Run, loss: float, stats: Mapping[str, float], reward: float) -> None:
    run.alarms += stats["alarm"]
    run.updates += 1
    if stats["stepped"]:
        run.recent.append((loss, stats["q"], None if np.isnan(reward) else reward))
    else:
        run.skipped += 1


def _means(recent: Sequence[tuple[float, float, float | None]]) -> dict[str, float]:
    """Mean loss and q, and reward where there is one."""
    columns = {"loss": [r[0] for r in recent], "q": [r[1] for r in recent], "reward": [r[2] for r in recent if r[2] is not None]}
    return {name: float(np.mean(values)) for name, values in columns.items() if values}


def _episodes(run: Run) -> dict[str, float]:
    """Mean return of the episodes that ended since the last point, how many they are, and the seconds so far; nothing from a log."""
    if not run.returns:
        return {}
    return {"return": float(np.mean(run.returns)), "episodes": len(run.returns), "seconds": round(run.trained, 1)}


@contextmanager
def noticed_ctrl_c() -> Generator[Callable[[], bool], None, None]:
    """Inside, Ctrl-C only makes the yielded function true, so that no update is cut in half; a second one stops at once.

    Signals reach the main thread only, and a handler that somebody else has set is left alone.
    """
    noticed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if not is_ours():
        yield lambda: False
        return

    def notice(number: int, _frame: FrameType | None) -> None:
        noticed.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, notice)
    try:
        yield lambda: bool(noticed)
    finally:
        signal.signal(signal.SIGINT, before)


def intra_op_threads(threads: int) -> None:
    """Sets torch's threads. One by default: small products on several threads wait for the slowest where the machine is busy."""
    if threads < 1:
        raise UserError("at least one thread", str(threads), where="--threads", code=Code.BAD_THREADS)
    torch.set_num_threads(threads)
