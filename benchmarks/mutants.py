"""Single-line faults that the tests must notice: `python benchmarks/mutants.py [--only PATTERN] [-j WORKERS]`.

Each row of benchmarks/mutations/*.toml changes one text of one file under src/qurate and names the tests that cover it.
Every fault is made in a copy of src; the working tree is only read. A fault is killed where one of its tests fails, and
survives where all pass. The command exits with 1 where a fault survives, a text is not found exactly once, the tests give no
verdict (they could not be collected, say), or fail without any fault.

Each fault runs in a process forked after the libraries were imported but before qurate was, so that the changed file is
loaded and a second or two of imports is saved. Bytecode of everything else is kept, in the copy's folder: to compile the package
and to rewrite the tests' assertions would take as long again. The run without a fault says what each test costs: with a fault
the cheapest run first (quickest_first.py).
"""

import argparse
import compileall
import contextlib
import fnmatch
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quickest_first import Order, Recorder

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads, as in the tests: bits depend on the number of threads

ROOT = Path(__file__).resolve().parents[1]
TABLES = Path("benchmarks") / "mutations"
LIBRARIES = (
    "pytest",
    "numpy",
    "torch",
    "torch._dynamo",  # an optimiser imports it: a second
    "polars",
    "msgspec",
    "safetensors.torch",
    "gymnasium",
    "apsw",
    "starlette.applications",
    "hypothesis",
)
TEST_LIMIT_S, LIMIT_S = 40, 120
"""Seconds after which one test fails, and after which a fault counts as noticed: it made a test hang."""

POLL_S = 0.02

KILLED, SURVIVED, MISSING, NO_VERDICT = "killed", "survived", "missing", "no verdict"


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault. `nth` (from 1) chooses an occurrence of `was`; 0: the text must occur exactly once."""

    path: str  # below src/qurate
    was: str
    now: str
    tests: tuple[str, ...]  # files or node ids, the likeliest to fail first
    nth: int = 0

    def position(self, text: str) -> int | None:
        """Where `was` stands in the file's text, None where it does not, or not exactly once."""
        if self.nth == 0 and text.count(self.was) != 1:
            return None
        at = -1
        for _ in range(max(self.nth, 1)):
            at = text.find(self.was, at + 1)
            if at < 0:
                return None
        return at

    def apply(self, text: str) -> str:
        """The file's text with the fault.

        Raises:
            ValueError: the text does not occur as often as it must.
        """
        at = self.position(text)
        if at is None:
            raise ValueError(f"{self.path}: {self.was!r} occurs {text.count(self.was)} times")
        return text[:at] + self.now + text[at + len(self.was) :]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one fault."""

    mutation: Mutation
    outcome: str  # KILLED | SURVIVED | MISSING | NO_VERDICT
    line: int  # of the text in its file, 0 where missing
    seconds: float = 0.0
    output: str = ""


def read_tables(folder: Path) -> list[Mutation]:
    """All mutations of a folder's TOML files, in the order of their names.

    A file holds `[[file]]` tables: `path`, `tests`, and `faults`, a list of `{was, now}` with optional `nth` and `tests`.
    """
    found = []
    for table in sorted(folder.glob("*.toml")):
        for file in tomllib.loads(table.read_text("utf-8"))["file"]:
            for fault in file["faults"]:
                tests = tuple(fault.get("tests", file["tests"]))
                found.append(Mutation(file["path"], fault["was"], fault["now"], tests, fault.get("nth", 0)))
    return found


def chosen(mutations: Sequence[Mutation], only: str | None) -> list[Mutation]:
    """Those whose path or changed text matches a pattern (fnmatch; without `*` a part is enough)."""
    if only is None:
        return list(mutations)
    pattern = only if "*" in only else f"*{only}*"
    return [m for m in mutations if any(fnmatch.fnmatchcase(text, pattern) for text in (m.path, m.was, m.now))]


def run_tests(source: Path, tests: Sequence[str], root: Path, log: Path, plugin: object) -> int:
    """Runs in a forked child and does not return: pytest on `tests` with `source` as the place of qurate."""
    os.setsid()  # so that what the tests start can be ended with them
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.dont_write_bytecode = False  # below `sys.pycache_prefix`, for the children that come after
    os.environ |= {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(sys.pycache_prefix)}
    os.chdir(root)
    sys.path.insert(0, str(source))
    code = 3
    try:
        import pytest

        import qurate

        if not Path(qurate.__file__).is_relative_to(source):
            raise RuntimeError(f"qurate came from {qurate.__file__}, not from {source}")
        without = [word for name in ("cacheprovider", "xdist", "unraisableexception") for word in ("-p", f"no:{name}")]
        code = int(pytest.main(["-x", "-q", f"--timeout={TEST_LIMIT_S}", *without, "--rootdir", str(root), *tests], [plugin]))
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def forked(source: Path, tests: Sequence[str], root: Path, log: Path, plugin: object) -> int:
    """The process id of a child that runs the tests with a plugin of quickest_first.py."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        run_tests(source, tests, root, log, plugin)
    return child


def outcome_of(code: int | None) -> str:
    """What pytest's exit code says about a fault; None: it hung. 2 and more mean that the tests were not run."""
    return {None: KILLED, 0: SURVIVED, 1: KILLED}.get(code, NO_VERDICT)


class Copy:
    """A copy of src/qurate in which one file at a time is changed."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder / "src", root
        shutil.copytree(root / "src" / "qurate", self.folder / "qurate")
        compileall.compile_dir(self.folder, quiet=1)
        self.log, self.costs = folder / "log", folder / "costs.json"
        self.changed: str | None = None

    def output(self) -> str:
        """What the last tests printed."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def change(self, mutation: Mutation | None) -> int:
        """Undoes the last change and makes this one; returns the line of the change (0 for none)."""
        if self.changed is not None:
            self._write(self.changed, (self.root / "src" / "qurate" / self.changed).read_text("utf-8"))
            compileall.compile_file(self.folder / "qurate" / self.changed, quiet=1)
            self.changed = None
        if mutation is None:
            return 0
        original = (self.root / "src" / "qurate" / mutation.path).read_text("utf-8")
        changed = mutation.apply(original)
        self._write(mutation.path, changed)
        self.changed = mutation.path
        return 1 + original[: mutation.position(original)].count("\n")

    def _write(self, path: str, text: str) -> None:
        """Bytecode goes by a file's size and the second in which it was written: two faults may agree in both."""
        file = self.folder / "qurate" / path
        file.write_text(text, "utf-8")
        Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)


@dataclass(slots=True)
class _Running:
    mutation: Mutation
    line: int
    pid: int
    since: float


def verdicts(mutations: Sequence[Mutation], workers: int, root: Path, costs: Mapping[str, float]) -> Iterator[Verdict]:
    """What becomes of each mutation, in the order in which they end; `workers` run at once, each in its own copy of src.

    `costs`: seconds of each test; the cheapest run first.
    """
    running: dict[int, _Running] = {}
    with tempfile.TemporaryDirectory(prefix="qurate-mutants-") as folder:
        copies = [Copy(Path(folder) / str(i), root) for i in range(workers)]
        waiting = list(reversed(mutations))
        try:
            while waiting or running:
                for place in range(workers):
                    while place not in running and waiting:
                        mutation = waiting.pop()
                        try:
                            line = copies[place].change(mutation)
                        except (ValueError, OSError) as error:
                            yield Verdict(mutation, MISSING, 0, output=str(error))
                            continue
                        pid = forked(copies[place].folder, mutation.tests, root, copies[place].log, Order(costs))
                        running[place] = _Running(mutation, line, pid, time.monotonic())
                time.sleep(POLL_S)
                for place, r in list(running.items()):
                    ended, code = _ended(r.pid, time.monotonic() - r.since)
                    if ended:
                        del running[place]
                        yield Verdict(r.mutation, outcome_of(code), r.line, time.monotonic() - r.since, copies[place].output())
        finally:
            for r in running.values():  # after Ctrl-C: the children have sessions of their own
                os.killpg(r.pid, signal.SIGKILL)
                os.waitpid(r.pid, 0)


def _ended(pid: int, seconds: float) -> tuple[bool, int | None]:
    """(whether a child has ended, its exit code or None where it hung); ends what it left running."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended and seconds < LIMIT_S:
        return False, None
    with contextlib.suppress(ProcessLookupError):  # nothing was left running
        os.killpg(pid, signal.SIGKILL)
    if not ended:
        os.waitpid(pid, 0)
    return True, os.waitstatus_to_exitcode(status) if ended else None


def baseline(mutations: Sequence[Mutation], workers: int, root: Path) -> tuple[str, dict[str, float]]:
    """Runs all covering tests without a fault: "" where they pass, else their output; and what each test costs, in seconds.

    A test that fails anyway notices nothing.
    """
    tests = list(dict.fromkeys(test for m in mutations for test in m.tests))
    files = {test for test in tests if "::" not in test}
    tests = [test for test in tests if "::" not in test or test.split("::")[0] not in files]
    with tempfile.TemporaryDirectory(prefix="qurate-mutants-") as folder:
        copies = [Copy(Path(folder) / str(i), root) for i in range(workers)]
        shares = [tests[i::workers] for i in range(workers)]
        running = [(copy, forked(copy.folder, share, root, copy.log, Recorder(copy.costs))) for copy, share in zip(copies, shares) if share]
        codes = [(copy, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])) for copy, pid in running]
        failed = "\n".join(copy.output() or f"exit code {code}" for copy, code in codes if code != 0)
        costs = {} if failed else {node: s for copy, _ in codes for node, s in json.loads(copy.costs.read_text("utf-8")).items()}
        return failed, costs


def report(results: Sequence[Verdict], say: Callable[[str], object] = print) -> int:
    """Counts, and every fault that was not killed; returns the exit code."""
    left = [v for v in results if v.outcome != KILLED]
    for v in sorted(left, key=lambda v: (v.mutation.path, v.line)):
        say(f"\n{v.outcome}: src/qurate/{v.mutation.path}:{v.line}\n  - {v.mutation.was}\n  + {v.mutation.now}")
        say(f"  tests: {' '.join(v.mutation.tests)}")
        if v.outcome in (MISSING, NO_VERDICT):
            lines = v.output.strip().splitlines()
            say("  " + "\n  ".join([line for line in lines if line.startswith("E ")][-3:] or lines[-5:]))
    counts = {name: sum(v.outcome == name for v in results) for name in (KILLED, SURVIVED, MISSING, NO_VERDICT)}
    say(f"\n{len(results)} faults: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n or name in (KILLED, SURVIVED)))
    return 1 if left or not results else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Single-line faults that the tests must notice.")
    parser.add_argument("--only", help="only faults whose file or text matches this pattern")
    parser.add_argument("-j", "--workers", type=int, default=2, help="faults tried at once")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests without a fault first")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout whose src, tests and tables are meant")
    parser.add_argument("--verbose", action="store_true", help="one line for every fault")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as after Ctrl-C: the children are ended too
    root = args.root.resolve()
    mutations = chosen(read_tables(root / TABLES), args.only)
    for library in LIBRARIES if root == ROOT else LIBRARIES[:1]:
        importlib.import_module(library)
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        plugin.load()
    gc.freeze()  # what was imported is not looked through again by every child
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="qurate-compiled-") as compiled:
        sys.pycache_prefix = compiled
        code = judge(mutations, args, root)
    print(f"{time.monotonic() - begin:.0f} s")
    return code


def judge(mutations: Sequence[Mutation], args: argparse.Namespace, root: Path) -> int:
    failed, costs = ("", {}) if args.no_baseline else baseline(mutations, args.workers, root)
    if failed:
        print("The tests fail without any fault:\n" + "\n".join(failed.splitlines()[-30:]), file=sys.stderr)
        return 1
    results = []
    for v in verdicts(mutations, args.workers, root, costs):
        results.append(v)
        if args.verbose or v.outcome != KILLED:
            print(f"{v.outcome:10} {v.seconds:5.1f} s  {v.mutation.path}:{v.line}  {v.mutation.now.strip()[:90]}", flush=True)
    return report(results)


if __name__ == "__main__":
    sys.exit(main())
