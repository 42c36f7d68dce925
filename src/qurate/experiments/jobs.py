"""Independent jobs in processes of their own, one per core, with their progress."""

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, NamedTuple

from qurate.training.run import intra_op_threads

Progress = Callable[[str, float, float], None]
"""Called with (what is done now, stages done, stages in all)."""


class Job(NamedTuple):
    """One call, made in another process: the function is found there by its name, the arguments are pickled."""

    function: Callable[..., Any]  # of a module, not a lambda
    arguments: tuple[Any, ...]
    stages: int  # how often it calls `report_progress`


_reports: "multiprocessing.Queue[str] | None" = None
"""In a worker process: where its progress goes."""


def report_progress(what: str) -> None:
    """Says that a stage of this job is done; does nothing outside `run_jobs`."""
    if _reports is not None:
        _reports.put(what)


def run_jobs(jobs: Sequence[Job], progress: Progress) -> list[Any]:
    """The results of `jobs`, in their order; the first jobs start first. A job that fails ends all.

    Raises:
        Whatever a job raised, or KeyboardInterrupt; no process is left.
    """
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # else a re.py in the user's folder would be run by every worker
    context = multiprocessing.get_context("spawn")
    reports, others = context.Queue(), set(multiprocessing.active_children())
    done, what, total = 0, "starting", sum(job.stages for job in jobs)
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(jobs)), context, _start_worker, (reports,)) as pool:
        waiting: list[Future[Any]] = [pool.submit(job.function, *job.arguments) for job in jobs]
        try:
            while any(not f.done() for f in waiting):
                try:
                    what, done = reports.get(timeout=0.2), done + 1
                except queue.Empty:
                    for failed in (f for f in waiting if f.done() and f.exception()):
                        failed.result()
                progress(what, done, total)
            return [f.result() for f in waiting]
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def _start_worker(reports: "multiprocessing.Queue[str]") -> None:
    """Ctrl-C reaches the whole group; the parent decides what to do about it."""
    global _reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    intra_op_threads(1)
    _reports = reports
