"""What the command line prints, and where: results to stdout, progress, notes and errors to stderr.

Nothing here imports a heavy module: `qurate --help` must answer in half a second.
"""

import errno
import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TextIO

from qurate.errors import Code, MachineError, QurateError, UserError


class Progress(Protocol):
    """Called by everything that takes over two seconds."""

    def __call__(self, stage: str, done: float, total: float, detail: str = "") -> None:
        """`stage` names a bar, `done` of `total` fills it (0 = nobody knows), `detail` says what happened last."""
        ...


def clean(value: object) -> str:
    """Text that is safe on a terminal: control characters (which an id may hold) are escaped, newlines too."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def number(value: object) -> str:
    """A number for people: integers with separators, others with four significant digits."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    return clean(value)


class _Notes(logging.Handler):
    """What the library logs, as lines on stderr: whichever stderr is at that moment, for bars replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(*map(clean, self.format(record).splitlines()), sep="\n", file=sys.stderr, flush=True)


NOTES = _Notes()


def library_notes(quiet: bool) -> None:
    """Sends the library's notes to stderr, with `--quiet` only its errors; from Python they get there by themselves."""
    NOTES.setLevel(logging.ERROR if quiet else logging.WARNING)
    logging.getLogger("qurate").addHandler(NOTES)  # again and again it is still one


@dataclass(frozen=True, slots=True)
class Terminal:
    """The global options, and the two streams."""

    json: bool = False
    quiet: bool = False
    seed: int | None = None  # None: not given, which means 0 wherever a result must repeat
    threads: int = 1
    device: str = "auto"

    def note(self, text: str) -> None:
        """One line on stderr, unless `--quiet`."""
        if not self.quiet:
            print(clean(text), file=sys.stderr, flush=True)

    def result(self, payload: Mapping[str, Any], render: Callable[[], None]) -> None:
        """The result on stdout: one JSON object without NaN, or what `render` prints for people.

        Raises:
            MachineError: stdout was closed before the command started; Python then prints nothing and says nothing.
        """
        if sys.stdout is None:
            raise MachineError(
                "a standard output", "a closed one", where="stdout", hint="redirect it to a file or to /dev/null", code=Code.NO_STDOUT
            )
        if self.json:
            import msgspec

            print(msgspec.json.encode(payload).decode(), flush=True)  # msgspec writes NaN and infinities as null
        else:
            render()
            sys.stdout.flush()

    @contextmanager
    def progress(self) -> Generator[Progress, None, None]:
        """Bars on a terminal; one line per finished stage elsewhere; nothing with `--quiet`.

        What code of others prints meanwhile (a user's environment, pygame's greeting) goes to stderr: stdout has the result only.
        """
        with redirect_stdout(sys.stderr):
            if self.quiet:
                yield lambda stage, done, total, detail="": None
            elif sys.stderr.isatty():
                with _bars() as bars:
                    yield bars
            else:
                lines = _Lines(sys.stderr)
                yield lines
                lines.close()


class _Lines:
    """Progress in a log file: a line when something happened or a stage ended, and every ten seconds in between."""

    def __init__(self, out: TextIO) -> None:
        self.out, self.stage, self.detail, self.start, self.last = out, "", "", time.monotonic(), 0.0

    def __call__(self, stage: str, done: float, total: float, detail: str = "") -> None:
        now = time.monotonic()
        if stage != self.stage:
            self.close()
            self.stage, self.start, self.last = stage, now, now
        part = f"{clean(stage)}: {100 * done / total:.0f} %, {now - self.start:.0f} s" if total > 0 else clean(stage)
        if detail != self.detail or (now - self.last > 10 and total > 0):
            self.detail, self.last = detail, now
            print(f"{part}{', ' if detail else ''}{clean(detail)}", file=self.out, flush=True)

    def close(self) -> None:
        if self.stage:
            print(f"{clean(self.stage)}: {time.monotonic() - self.start:.1f} s", file=self.out, flush=True)
        self.stage = self.detail = ""


@contextmanager
def _bars() -> Generator[Progress, None, None]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    columns.append(TextColumn("{task.fields[detail]}", markup=False))
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, done: float, total: float, detail: str = "") -> None:
            if stage not in tasks:
                for other in tasks.values():  # stages follow each other: the earlier ones are finished
                    bars.update(other, completed=bars.tasks[other].total or 1, total=bars.tasks[other].total or 1)
                tasks[stage] = bars.add_task(clean(stage), total=total or None, detail="")
            bars.update(tasks[stage], completed=done, total=total or None, detail=clean(detail))

        yield update


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table on stdout; the first column is text, columns of numbers are right-aligned."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    out = Table(title=title or None, title_justify="left", box=SIMPLE, pad_edge=False)
    for i, name in enumerate(columns):
        numeric = all(not isinstance(row[i], str) for row in cells)
        out.add_column(name, justify="right" if i and numeric else "left", overflow="fold")
    for row in cells:
        out.add_row(*(Text(number(cell)) for cell in row))
    # Without a terminal nothing may be cut or wrapped: the reader is a file or another program.
    console = Console(width=None if sys.stdout.isatty() else 500, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(out)
    print("\n".join(line.rstrip() for line in captured.get().splitlines() if line.strip()))


def lines(values: Mapping[str, object]) -> None:
    """`name: value` lines on stdout."""
    for name, value in values.items():
        print(f"{name}: {number(value)}")


def listed(values: object) -> object:
    """A short text for a list or mapping; anything else as it is."""
    if isinstance(values, dict):
        return ", ".join(f"{k} {number(v)}" for k, v in values.items())
    return ", ".join(map(number, values)) if isinstance(values, list | tuple) else values


def interval(value: Sequence[float] | None) -> str:
    """A confidence interval; a dash where one repetition gives none."""
    return "-" if value is None or value[0] is None else f"[{number(value[0])}, {number(value[1])}]"


def print_comparison(result: dict[str, Any]) -> None:
    columns = ["policy", "mean", "95 % interval", "visit length", "steps trained", f"lift over {result['best_baseline']}", "95 % interval"]
    rows = [
        [p["name"], p["mean"], interval(p["ci"]), p["length"], p["steps_trained"], p["lift"], interval(p["lift_ci"])]
        for p in result["policies"]
    ]
    table(columns, rows, f"{result['env']}: {len(result['seeds'])} seeds, {number(result['customers'])} customers each")
    if room := result.get("headroom"):
        score = "" if room["score"] is None else f"; {result['subject']} reaches {100 * room['score']:.0f} % of it"
        print(f"what foresight can add here, {room['from']} to {room['to']}: {number(room['mean'])} {interval(room['ci'])}{score}")
    print(clean(result["sentence"]))


def print_evaluation(result: dict[str, Any]) -> None:
    if "contenders" in result:
        return _print_contest(result)
    sections = {
        "the model": result["metrics"],
        **{f"by {k}": v for k, v in result.get("by_score", {}).items()},
        **result.get("baselines", {}),
    }
    for name, entry in [
        *result.get("by_type", {}).items(),
        *((part, result[part]) for part in ("first_choices", "repeats") if part in result),
        *result.get("segments", {}).items(),
    ]:
        if _is_part(entry, result["n"]) and set(entry) & set(result["metrics"]):
            sections[f"the model, {name.replace('_', ' ')} (n = {number(entry['n'])})"] = entry
    metrics = list(result["metrics"])
    rows = [[name, *(_cell(cells.get(m)) for m in metrics)] for name, cells in sections.items()]
    table(["ranked by", *metrics], rows, f"{result['model']} on {result['on']}, {_number_of_decisions(result)}")
    print(clean(result["caption"]))
    _print_alike(result)
    _print_lists(result)
    if "exclude" in result:
        print(f"not shown again: {result['exclude']} (--exclude says otherwise)")


def _cell(measured: dict[str, Any] | None) -> str:
    """A mean with its interval; without one where there is none, as for a share of the catalogue."""
    if measured is None or measured["mean"] is None:
        return "-"
    ends = measured["ci"]
    return number(measured["mean"]) + ("" if ends[0] is None else f" {interval(ends)}")


def _number_of_decisions(result: dict[str, Any]) -> str:
    """With what all of them are: of one type, first choices or repeats."""
    parts = {f"of type {name}": entry for name, entry in result.get("by_type", {}).items()}
    parts |= {part.replace("_", " "): result[part] for part in ("first_choices", "repeats") if part in result}
    return f"n = {number(result['n'])}" + "".join(f", all {clean(name)}" for name, of in parts.items() if of.get("n") == result["n"])


def _is_part(entry: dict[str, Any], whole: int) -> bool:
    """Whether an entry is of some of the decisions: that of all of them repeats the row above, that of none says nothing."""
    return bool(0 < entry.get("n", 0) < whole)


def _print_lists(result: dict[str, Any]) -> None:
    """What stands on the lists, chosen or not."""
    found = result.get("lists", {})
    metrics = list(next(iter(found.values()), {}))
    rows = [[name, *(_cell(one[m]) for m in metrics)] for name, one in found.items()]
    if rows:
        table(["what is recommended by", *metrics], rows, "")


def _print_alike(result: dict[str, Any]) -> None:
    """The figures where each answer counts by 1 / its propensity."""
    if found := result.get("shown_alike", {}):
        metrics = [metric for metric in result["metrics"] if metric in next(iter(found.values()))]
        rows = [[name, *(_cell(one[m]) for m in metrics)] for name, one in found.items()]
        effective = number(round(next(iter(found.values()))["effective"]))
        table(["ranked by", *metrics], rows, f"each answer by 1 / its propensity, as if all were shown alike; worth {effective} answers")


def _print_contest(result: dict[str, Any]) -> None:
    metrics, rows = list(result["metrics"]), []
    for one in result["contenders"]:
        parts = {**one["by_type"], **{part.replace("_", " "): one[part] for part in ("first_choices", "repeats")}}
        parts = {one["name"]: one["metrics"], **{f"  {name}": entry for name, entry in parts.items() if _is_part(entry, result["n"])}}
        for name, cells in parts.items():
            behind = one["behind"] if name == one["name"] else None
            gap = "" if behind is None else _cell(behind)
            rows.append([name, *(_cell(cells.get(m)) for m in metrics), gap])
    table(["ranked by", *metrics, f"behind {result['best']}"], rows, f"on {result['on']}, {_number_of_decisions(result)}")
    _print_alike(result)
    for note in result["notes"]:
        print(clean(note))
    print(f"{clean(result['caption'])}; not shown again: {result['exclude']}")
    print(clean(result["sentence"]))


def note_exclusion(terminal: Terminal, model: Any, exclude: Sequence[str]) -> None:
    """Says what is not shown again where the command did not."""
    from qurate.models.recommend import exclusion

    rule, reason = exclusion(model, exclude)[1], model.answering.exclude_reason
    if rule.text == model.answering.exclude and rule.text not in exclude and reason:
        terminal.note(f"note: not shown again: {rule.text} ({reason}); --exclude seen|purchased|none says otherwise")


def print_settings(terminal: Terminal) -> None:
    from qurate.settings import describe_settings

    rows = describe_settings()
    terminal.result(
        {"settings": rows}, lambda: table(["setting", "type and range", "default", "meaning"], [list(r.values()) for r in rows])
    )


def print_decision(terminal: Terminal, decision: Any, k: int, model: Any) -> None:
    import msgspec

    from qurate.models.recommend import titles_of

    payload = msgspec.to_builtins(decision)
    if payload["degraded"]:
        learned = any(item["source"] != "fallback" for item in payload["items"])
        what = "the model's, for a customer without a history" if learned else "a fallback" if payload["items"] else "empty"
        terminal.note(f"note: the answer is {what} ({payload['degraded']})")
    if len(payload["items"]) < k:
        terminal.note(f"note: {len(payload['items'])} items can be shown, {k} were asked for")
    extra = ["now", "later"] if payload["items"] and payload["items"][0].get("now") is not None else []
    columns = ["score", "propensity", "source", *extra]
    rising = any(later["score"] > earlier["score"] for earlier, later in pairwise(payload["items"]))
    note_order(terminal, model, rising)
    if model.by == "behaviour_times_q" and rising:
        terminal.note("note: items stand by how likely they are to be chosen times their score, which is the reward expected from them")
    named = titles_of(model)
    title = ["title"] if named else []

    def render() -> None:
        rows = [[i["item_id"], *(named.get(i["item_id"], "-") for _ in title), *(i[c] for c in columns)] for i in payload["items"]]
        table(["item_id", *title, *columns], rows)

    terminal.result(payload, render)


def note_order(terminal: Terminal, model: Any, rising: bool) -> None:
    """Says why scores do not fall with the rank, where some are `rising`."""
    if model.by == "q_in_support" and rising:
        terminal.note(
            "note: first stand the items that the log often has in such a situation, by their score, then the others: "
            "the score of what the log hardly has is a guess"
        )


def summary(manifest: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The contract's ingest JSON."""
    counts = {name: manifest["counts"][name] for name in ("events", "decisions", "users", "items", "rejected")}
    return {"dataset": str(path), "layout": manifest["layout"], "kind": manifest["kind"], **counts, "time_unit": manifest["time_unit"]}


def print_error(error: QurateError, as_json: bool) -> int:
    """One line on stderr (with `--json` a second one, the error object); returns the exit code."""
    print(f"error: {clean(error.typed)}", file=sys.stderr)
    if as_json:
        import msgspec

        print(msgspec.json.encode({"error": error.to_dict()}).decode(), file=sys.stderr)
    sys.stderr.flush()
    return error.exit_code


def machine_error(error: OSError) -> QurateError:
    """What the operating system refused, as one of our errors."""
    where = clean(error.filename or "")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        return UserError("a file that can be opened", error.strerror or "none", where=where, hint="check the path", code=Code.NO_SUCH_FILE)
    hints = {
        errno.ENOSPC: ("free space", "free some; nothing that was complete is lost", Code.DISK_FULL),
        errno.EDQUOT: ("free space", "free some; nothing that was complete is lost", Code.DISK_FULL),
        errno.EACCES: ("permission", "check who may read and write there", Code.NOT_PERMITTED),
        errno.EPERM: ("permission", "check who may read and write there", Code.NOT_PERMITTED),
        errno.EROFS: ("a writable disk", "choose another folder", Code.NOT_PERMITTED),
        errno.EADDRINUSE: ("a free port", "choose another one with --port", Code.PORT_TAKEN),
    }
    expected, hint, code = hints.get(error.errno or 0, ("the operating system to agree", "try again", Code.OS_ERROR))
    return MachineError(expected, error.strerror or str(error) or type(error).__name__, where=where, hint=hint, code=code)


def short_of_memory(error: Exception) -> bool:
    """Whether an allocation failed. On the CPU torch has no kind of error for it but RuntimeError, so there its text decides."""
    of_torch = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    return of_torch or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
