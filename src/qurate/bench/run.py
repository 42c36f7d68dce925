"""`qurate bench`: the figures of "Speed and memory", each measured here and now, beside the machine's own limits.

One core and one thread. A loop inside this process is timed by the CPU seconds that it takes, so that neighbours who
take turns on the core do not count (on an idle machine it is the wall clock); processes and requests are timed by the
clock. The figure is the median of many short turns, the note names the best one: neighbours still share caches and memory,
and the machine's own figures of the same minutes, taken in the same way, say how much is left.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qurate.algorithms.table import make_objective
from qurate.baselines.registry import random_policy
from qurate.bench.large import large
from qurate.bench.load import measure, recommendations, server
from qurate.bench.rows import Row, Work, bytes_of, flops_of, rate, row, turns
from qurate.environments.log_writer import simulate
from qurate.environments.registry import make_engine
from qurate.errors import Code, MachineError, UserError, nearest
from qurate.events.readers import read_events
from qurate.files import replacing_file
from qurate.learning.learner import Learner
from qurate.mdp.dataset import build_dataset
from qurate.mdp.storage import Dataset
from qurate.networks.build import build_network
from qurate.networks.values import to_tensors
from qurate.outputs import check_files
from qurate.replay.event_replay import EventReplay
from qurate.replay.prioritised import PrioritisedSampler
from qurate.replay.samplers import LogSampler, OnlineSampler
from qurate.replay.writers import OnlineWriter, store_from_log
from qurate.settings import from_flat
from qurate.types import Availability

ReportLine = Callable[[str], None]

WINDOW, BATCH, ITEMS, DIM, CATALOGUE = 50, 256, 1_000, 64, 10_000
GAMMA, TAU_S = 0.9, 30 * 86_400.0
GLOBO = Path("globo_news/clicks.parquet")
MARKS = ("<!-- qurate bench -->", "<!-- end -->")

INGEST = """
import resource, sys
from qurate.cli.app import main
code = main(["ingest", sys.argv[1], "-o", sys.argv[2], "--json", "--quiet"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def with_roofline(line: Row, machine: dict[str, float]) -> Row:
    """The line with its share of the roofline (Williams et al. 2009, doi:10.1145/1498765.1498785) in place of its work.

    The share is the least seconds a unit could take (its FLOPs or its bytes, whichever takes this machine longer) over those it took.
    """
    if "work" not in line:
        return line
    flops, n_bytes = line["work"]
    least = max(flops / machine["gflops"], n_bytes / machine["gb_s"]) / 1e9
    rest = {key: value for key, value in line.items() if key != "work"}
    return rest | {"flops": round(flops), "bytes": round(n_bytes), "roofline": round(line["value"] * least, 3)}


def short(line: Row) -> bool:
    """Whether a figure misses its aim."""
    if line["value"] is None or line["aim"] is None:
        return False
    sign, limit = line["aim"].split()
    return bool(line["value"] < float(limit)) if sign == ">=" else bool(line["value"] > float(limit))


def machine(seconds: float = 1.0) -> dict[str, float]:
    """What one core does: float32 matrix product, GFLOP/s; copying 64 MiB, GB/s read and written."""
    n, big = 1_024, np.ones(1 << 24, np.float32)
    a, b, into = torch.rand(n, n), torch.rand(n, n), np.empty_like(big)
    product, copy = turns(lambda: a @ b, 1, seconds), turns(lambda: np.copyto(into, big), 1, seconds)
    return {"gflops": round(2 * n**3 / float(np.median(product)) / 1e9, 1), "gb_s": round(2 * big.nbytes / float(np.median(copy)) / 1e9, 1)}


def shop(seconds: float) -> list[Row]:
    """The batched engine with random actions: kernel and configuration of `train --env shop`, observations built."""
    rows = []
    for customers, aim, calls in ((1_024, ">= 1000000", 20), (1, ">= 10000", 2_000)):
        engine = make_engine("shop", window=WINDOW)
        engine.reset(0, customers)
        actions = cycle(np.random.default_rng(0).integers(0, engine.n_items, (64, customers)))
        taken = turns(lambda engine=engine, actions=actions: engine.step(next(actions)), calls, seconds)  # type: ignore[misc]
        name = f"shop, {customers:,} customer{'s' if customers > 1 else ''}"
        rows.append(rate(name, "steps/s", aim, customers, taken, f"{engine.n_items} items, window {WINDOW}, observations built"))
    return rows


@cache
def _shop_log(users: int) -> Dataset:
    """A log of the shop with 1,000 items, through the whole road; 50 decisions a customer at most."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.parquet"
        simulate(make_engine("shop", n_items=ITEMS), random_policy(1), users, 50, 0, log)
        return build_dataset(read_events(log))


def _log_store(users: int) -> tuple[Dataset, EventReplay]:
    data = _shop_log(users)
    return data, store_from_log(data.arrays, data.transitions, data.weights, data.user_features, GAMMA, TAU_S, WINDOW, data.availability)


def replay(seconds: float, users: int = 2_000) -> list[Row]:
    """Sampling from a log's store and from the rings of online learning; bytes per transition of both."""
    data, store = _log_store(users)
    engine = make_engine("shop", window=WINDOW)
    lanes = 64
    writer = OnlineWriter(
        lanes,
        users * 50,
        WINDOW,
        engine.component_weights,
        Availability.always(engine.n_items),
        len(engine.user_feature_names),
        GAMMA,
        TAU_S,
    )
    rng = np.random.default_rng(0)
    writer.begin(engine.reset(0, lanes), engine.clock)
    for _ in range(users * 50 // lanes):
        actions = rng.integers(0, engine.n_items, lanes)
        writer.add(actions + 1, engine.step(actions))
    rows = []
    sources: list[tuple[str, EventReplay, LogSampler | OnlineSampler]] = [
        ("from a log", store, LogSampler(data.transitions)),
        ("from rings", writer.store, OnlineSampler(writer)),
    ]
    for name, source, sampler in sources:
        taken = turns(lambda source=source, sampler=sampler: source.batch(sampler.sample(rng, BATCH).index), 20, seconds)  # type: ignore[misc]
        note = f"batch {BATCH}, window {WINDOW}, state and successor gathered, {len(source.tables.action):,} transitions"
        drawn = source.batch(sampler.sample(rng, BATCH).index)
        work = Work(0, 2 * bytes_of((drawn.state, drawn.next_state)))  # nearly all of a batch: read from the store and written
        rows.append(rate(f"replay sampling {name}", "transitions/s", ">= 1000000", BATCH, taken, note, work=work))
    rows.append(prioritised(seconds))
    for name, source, _ in sources:
        note = f"{source.tables.reward.shape[1]} reward components"
        rows.append(row(f"stored transition {name}, beside the events", round(source.bytes_per_transition(), 1), "bytes", "<= 64", note))
    return rows


def prioritised(seconds: float, size: int = 1 << 20) -> Row:
    """Drawing a batch by priorities and writing its new priorities, of a replay that is full."""
    sampler, rng = PrioritisedSampler(size), np.random.default_rng(0)
    sampler.add(np.arange(size))
    errors = rng.normal(size=(64, BATCH)).astype(np.float32)
    for part in np.array_split(np.arange(size), 64):
        sampler.update(part, rng.normal(size=len(part)).astype(np.float32))
    surprises = cycle(errors)
    taken = turns(lambda: sampler.update(sampler.sample(rng, BATCH).index, next(surprises)), 200, seconds)
    note = f"batch {BATCH}, {size:,} transitions; each batch is drawn and its priorities are written"
    return rate("prioritised sample + update", "transitions/s", ">= 2000000", BATCH, taken, note)


def learner(seconds: float, users: int = 2_000) -> list[Row]:
    """Updates of DQN from a logged log, the now-and-later form with the behaviour head; and scoring: the best items of its states."""
    data, store = _log_store(users)
    settings = from_flat({"embedding_dim": DIM, "batch_size": BATCH, "window": WINDOW})
    network = build_network(
        data.item_features, settings, n_types=data.vocabulary.n_types, user_dim=data.user_features.shape[1],
        n_components=len(data.weights), behaviour=True, seed=0,
    )  # fmt: skip
    ours = Learner(network, make_objective("dqn", settings), settings.learning)
    rng, sampler = np.random.default_rng(0), LogSampler(data.transitions)
    batches = cycle([store.batch(sampler.sample(rng, BATCH).index) for _ in range(32)])
    first = next(batches)
    # weights, gradient, two moments, target and mean: read and written; the batch is read
    moved = bytes_of(first) + 12 * sum(weight.nbytes for weight in ours.module.parameters())
    work = Work(flops_of(lambda: ours.update(first)), moved)
    taken = turns(lambda: ours.update(next(batches)), 4, seconds)
    shape = f"batch {BATCH}, {ITEMS:,} items, {DIM}-d, hidden {settings.network.hidden}, window {WINDOW}"
    states, bound = to_tensors(first), ours.bound_target()

    @torch.no_grad()
    def score() -> object:
        return bound(states.next_state).best(states.next_actions, settings.offline.support_threshold)

    # read: the states, the item vectors, and the weights behind them (the tower that made the vectors has run before)
    weights = sum(weight.nbytes for name, weight in ours.module.named_parameters() if not name.startswith("tower."))
    scoring = Work(flops_of(score), bytes_of(first.next_state) + ITEMS * DIM * 4 + weights)
    chosen = turns(score, 8, seconds)
    return [
        rate("learner", "updates/s", None, 1, taken, shape, work=work),
        rate("scoring", "states/s", None, BATCH, chosen, f"{shape}; the best item inside the support", work=scoring),
    ]


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ingest(seconds: float) -> list[Row]:
    """`qurate ingest` of globo_news in a process of its own: reading, building and writing, start-up included."""
    log = Path(os.environ.get("QURATE_DATA", "")) / GLOBO
    names = ("ingest of globo_news", "its peak memory")
    if not os.environ.get("QURATE_DATA") or not log.exists():
        note = f"not measured: {GLOBO} is not in QURATE_DATA ({os.environ.get('QURATE_DATA') or 'not set'})"
        return [row(names[0], None, "events/s", ">= 500000", note), row(names[1], None, "GB", "<= 1.5", note)]
    import polars as pl

    events = pl.scan_parquet(log).select(pl.len()).collect().item()
    taken, busy, peak = [], [], 0
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    for _ in range(3 if seconds >= 1 else 1):
        with tempfile.TemporaryDirectory() as folder:
            start, cpu = time.perf_counter(), _cpu_of_children()
            command = [sys.executable, "-c", INGEST, str(log), str(Path(folder) / "dataset")]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            taken.append(time.perf_counter() - start)
            busy.append(_cpu_of_children() - cpu)
        if done.returncode:
            raise MachineError("an ingest that succeeds", done.stderr.strip()[-300:], where=str(log), code=Code.BENCH_FAILED)
        peak = max(peak, int(done.stderr.split()[-1]))
    by_cpu = events / float(np.median(busy))
    note = f"{events:,} events, a fresh process, reading to fsync, polars on one thread; by CPU seconds {by_cpu:,.0f}"
    return [
        rate(names[0], "events/s", ">= 500000", events, taken, note),
        row(names[1], round(peak * 1024 / 1e9, 3), "GB", "<= 1.5", "largest resident set"),
    ]


def start(seconds: float) -> list[Row]:
    """`qurate --help` in a fresh process."""
    command = [sys.executable, "-c", "import sys; from qurate.cli.app import main; sys.exit(main(['--help']))"]
    taken = turns(lambda: subprocess.run(command, check=True, capture_output=True), 1, min(seconds, 3.0), time.perf_counter)
    return [row("qurate --help", round(float(np.median(taken)), 3), "s", "<= 0.5", f"a fresh process; best {min(taken):.3f}")]


def http(seconds: float) -> list[Row]:
    """POST /v1/recommend: 10 of 10,000 items, full windows of 50; the server and the client get a core each where there are two."""
    rows = []
    with server([sys.executable, "-m", "qurate.bench.load", str(CATALOGUE)], CATALOGUE) as process:
        for connections in (1, 32):
            figures = measure(process, "/v1/recommend", recommendations(connections), seconds)
            name = f"POST /v1/recommend, {connections} connection{'s' if connections > 1 else ''}"
            where = (
                f"{figures['cpu_ms']:.2f} ms of processor time a request, {figures['in_server_ms']:.2f} ms in the server; a batch of "
                f"{figures['requests_per_batch']:.1f} is decided in {figures['model_ms']:.2f} ms, a commit of "
                f"{figures['requests_per_commit']:.1f} takes {figures['commit_ms']:.2f} ms"
            )
            rows.append(row(f"{name}: p50", round(figures["p50_ms"], 2), "ms", None, f"10 of {CATALOGUE:,} items, window {WINDOW}"))
            rows.append(row(f"{name}: p99", round(figures["p99_ms"], 2), "ms"))
            rows.append(row(f"{name}: throughput", round(figures["per_s"], 1), "requests/s", ">= 5000" if connections > 1 else None, where))
    return rows


PARTS: dict[str, Callable[[float], list[Row]]] = {
    "shop": shop, "replay": replay, "learner": learner, "large": large, "ingest": ingest, "start": start, "http": http,
}  # fmt: skip


def bench(name: str | None = None, seconds: float = 5.0, progress: ReportLine | None = None) -> dict[str, Any]:
    """The contract's bench JSON.

    Args:
        name: of one part (`PARTS`), None = all.
        seconds: per loop.
        progress: called with the name of each part before it runs.

    Raises:
        UserError: no such part.
        MachineError: a process that was to be measured failed.
    """
    if name is not None and name not in PARTS:
        raise UserError("a part of the benchmark", repr(name), where="qurate bench", hint=nearest(name, PARTS), code=Code.UNKNOWN_BENCHMARK)
    torch.set_num_threads(1)
    rows: list[Row] = []
    before = machine(min(seconds, 1.0))
    for part in [name] if name else PARTS:
        if progress is not None:
            progress(part)
        rows += PARTS[part](seconds)
    after = machine(min(seconds, 1.0))
    mean = {key: round((before[key] + after[key]) / 2, 1) for key in before}
    return {"machine": mean, "rows": [with_roofline(line, mean) for line in rows]}


def markdown(result: dict[str, Any]) -> str:
    """The result as a table of Markdown."""
    lines = [
        f"One core of this machine: {result['machine']['gflops']} GFLOP/s (float32 matrix product), {result['machine']['gb_s']} GB/s"
        f" (copying, read and written). Measured {time.strftime('%Y-%m-%d')} by `qurate bench`. Roofline: the least time that the"
        " row's own matrix products and memory traffic, counted, could take on this core, over the time taken.",
        "",
        "| | value | unit | aim | | roofline | notes |",
        "|---|---:|---|---|---|---:|---|",
    ]
    for line in result["rows"]:
        value = "-" if line["value"] is None else f"{line['value']:,.6g}" if line["value"] < 1_000 else f"{line['value']:,.0f}"
        aim = "" if line["aim"] is None else "{} {:,.12g}".format(line["aim"].split()[0], float(line["aim"].split()[1]))
        met = "" if line["aim"] is None or line["value"] is None else "**short**" if short(line) else "met"
        share = f"{line['roofline']:.0%}" if "roofline" in line else ""
        lines.append(f"| {line['name']} | {value} | {line['unit']} | {aim} | {met} | {share} | {line['note']} |")
    return "\n".join(lines)


def check_place(path: Path, force: bool) -> None:
    """Before anything is measured: the file of `write` has the marks, or is not there, or may be replaced.

    Raises:
        UserError: a file without the marks. MachineError: it cannot be written.
    """
    marked = path.is_file() and not force
    if marked and not all(mark in path.read_text() for mark in MARKS):
        expected, hint = f"a file with the lines {MARKS[0]} and {MARKS[1]}", "add them, or replace the file with --force"
        raise UserError(expected, "one without", where=str(path), hint=hint, code=Code.NO_MARKS)
    check_files([path], force=marked or force)


def write(result: dict[str, Any], path: Path, force: bool = False) -> None:
    """Puts the table between the marks of a Markdown file; what people wrote around it stays. A new file is made where none is."""
    check_place(path, force)
    text = path.read_text() if path.exists() else ""
    if not all(mark in text for mark in MARKS):
        text = f"# Speed and memory\n\n{MARKS[0]}\n{MARKS[1]}\n"
    head, rest = text.split(MARKS[0], 1)
    with replacing_file(path) as beside:
        beside.write_text(f"{head}{MARKS[0]}\n{markdown(result)}\n{MARKS[1]}{rest.split(MARKS[1], 1)[1]}")
