"""The command line: reads options, calls the stage, prints the result. No logic of its own.

Heavy modules (torch, polars) are imported inside the commands, so that `qurate --help` answers at once.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from qurate.cli import customers, logs, model_commands
from qurate.cli.arguments import (
    arrange,
    command_of,
    ids,
    known_command,
    usage_error,
)
from qurate.cli.output import (
    Terminal,
    library_notes,
    lines,
    listed,
    machine_error,
    number,
    print_comparison,
    print_error,
    short_of_memory,
)
from qurate.errors import Code, MachineError, QurateError, UserError, innermost, nearest
from qurate.interrupts import remembered
from qurate.locks import require_posix

DEVICES = ("auto", "cpu", "cuda")

EPILOG = "Global options may stand anywhere: --json --seed N --threads N --device auto|cpu|cuda --quiet"

INTERRUPTED = "interrupted"
HELP = {"help_option_names": ["-h", "--help"]}


class _Commands(typer.core.TyperGroup):
    """The commands, with a line for Ctrl-C: by itself typer ends without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print(INTERRUPTED, file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="qurate", cls=_Commands, context_settings=HELP, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False
)

Force = logs.Force
Exclude = model_commands.Exclude
Output = Annotated[Path, typer.Option("--output", "-o", help="where the result goes")]


def version(show: bool) -> None:
    if show:
        from qurate import __version__

        print(__version__)
        raise typer.Exit()


@app.callback(epilog=EPILOG)
def options(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="the result as one JSON object")] = False,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=2**63 - 1, help="of everything random", show_default="0")] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="threads of tensor work")] = 1,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress and no notes on stderr")] = False,
    _version: Annotated[bool, typer.Option("--version", help="print the version", is_eager=True, callback=version)] = False,
) -> None:
    """Recommendations that pay off over time: deep Q-learning from your event log to a service."""
    if device not in DEVICES:
        raise UserError("auto, cpu or cuda", repr(device), where="--device", hint=nearest(device, DEVICES), code=Code.UNKNOWN_DEVICE)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read by torch when a command imports it
        os.environ[name] = str(threads)
    library_notes(quiet)
    ctx.obj = Terminal(json, quiet, seed, threads, device)
    if device == "cuda":
        from qurate.learning.device import device_of  # torch

        device_of(device)
        if ctx.invoked_subcommand != "train":
            ctx.obj.note(f"note: --device is for train; {ctx.invoked_subcommand} computes on the CPU")


@app.command(epilog=EPILOG)
def demo(ctx: typer.Context, output: Output = Path("qurate-demo"), force: Force = False) -> None:
    """Simulate a shop, learn from its log, and compare with every baseline (about two minutes on two cores)."""
    from qurate.experiments.demo import demo as run

    terminal: Terminal = ctx.obj
    with terminal.progress() as progress:
        result = run(output, terminal.seed or 0, lambda what, done, total: progress("demo", done, total, what), force=force)

    def render() -> None:
        print_comparison(result)
        print_comparison(result["control"])
        print(f"report: {result['report']}\nmodel: {result['model']}\nseconds: {number(result['seconds'])}")

    terminal.result(result, render)


@app.command(epilog=EPILOG)
def simulate(
    ctx: typer.Context,
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="a simulator, such as shop")],
    output: Output,
    *,
    users: Annotated[int, typer.Option("--users", min=1, help="customers")] = 1000,
    steps: Annotated[int, typer.Option("--steps", min=1, help="decisions per customer at most")] = 50,
    policy: Annotated[str, typer.Option("--policy", metavar="NAME|MODEL", help="random, popularity or a model directory")] = "random",
    slate: Annotated[int, typer.Option("--slate", min=1, help="items shown per decision")] = 1,
    trace: Annotated[
        int, typer.Option("--trace", min=0, metavar="N", help="also write what the first N customers met, decision by decision")
    ] = 0,
    source: Annotated[
        str | None, typer.Option("--from", metavar="PATH", help="what the scenario is made from: fitted needs customers or a dataset")
    ] = None,
    exclude: Exclude = None,
    force: Force = False,
) -> None:
    """Write the event log of simulated customers, with the probabilities of what they were shown."""
    from qurate.experiments.simulate import simulate_log

    terminal: Terminal = ctx.obj
    scenario = customers.fitted_first(scenario if source is None else f"{scenario},from={source}", terminal) or scenario
    with terminal.progress() as progress:
        result = simulate_log(
            scenario,
            policy,
            users,
            steps,
            terminal.seed or 0,
            output,
            slate=slate,
            trace=trace,
            force=force,
            exclude=ids(exclude or ()),
            progress=lambda done, all: progress("simulating", done, all),
        )
    terminal.result(result, lambda: lines(result))


app.command(epilog=EPILOG)(logs.validate)
app.command(epilog=EPILOG)(logs.ingest)


@app.command(epilog=EPILOG)
def inspect(ctx: typer.Context, dataset: Annotated[Path, typer.Argument(metavar="DATASET")]) -> None:
    """What is in a dataset, and whether it needs reinforcement learning at all."""
    from qurate.evaluation.needs_rl import inspect as run
    from qurate.evaluation.needs_rl import most_seen
    from qurate.mdp.dataset import Dataset

    terminal: Terminal = ctx.obj
    with terminal.progress() as progress:
        progress("inspecting", 0, 0)
        data = Dataset.read(dataset)
        result = run(data, terminal.seed or 0)
    most = [f"{one['item_id']}{' ' if one['title'] else ''}{one['title'] or ''} ({one['events']:,})" for one in most_seen(data)]
    terminal.result(result, lambda: lines({k: listed(v) for k, v in {**result, "most seen": most}.items()}))


COMMANDS = (
    model_commands.train, model_commands.tune, model_commands.evaluate, model_commands.compare, model_commands.recommend,
    model_commands.play, model_commands.serve, customers.customers,
)  # fmt: skip
for command in COMMANDS:
    app.command(epilog=EPILOG)(command)


@app.command(epilog=EPILOG)
def bench(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="shop, replay, learner, ingest, start or http; all by default")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="per measured loop")] = 5.0,
    write: Annotated[Path | None, typer.Option("--write", metavar="FILE", help="put the table into this Markdown file")] = None,
    force: Force = False,
) -> None:
    """Measure speed and memory, beside this machine's own GFLOP/s and GB/s."""
    from qurate.bench import run

    if write is not None:
        run.check_place(write, force)
    terminal: Terminal = ctx.obj
    with terminal.progress() as progress:
        result = run.bench(name, seconds, lambda part: progress(f"measuring {part}", 0, 0))
    if write is not None:
        run.write(result, write, force)
    terminal.result(result, lambda: print(run.markdown(result)))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. No exception leaves it."""
    with remembered() as pressed:
        return _run(argv, pressed)


def _run(argv: Sequence[str] | None, pressed: list[int]) -> int:
    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    as_json = "--json" in args
    try:
        args = arrange(args)
        known_command(args, [command.callback.__name__ for command in app.registered_commands if command.callback])
        if not {"--help", "--version"} & set(args):
            require_posix()  # before any work
        return int(app(args, prog_name="qurate", standalone_mode=False) or 0)
    except QurateError as error:
        return print_error(error, as_json)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return print_error(machine_error(error), as_json)
    except Exception as error:
        if short_of_memory(error):
            hint = "use a smaller replay_capacity, batch_size or window, or a smaller log"
            where = f"qurate {command_of(args)}"
            return print_error(MachineError("enough memory", "too little", where=where, hint=hint, code=Code.OUT_OF_MEMORY), as_json)
        if hasattr(error, "format_message"):
            return print_error(usage_error(error), as_json)
        if os.environ.get("QURATE_LOG") == "debug":
            raise
        if pressed:  # a library swallowed it
            print(INTERRUPTED, file=sys.stderr)
            return 130
        hint = "this is a fault of qurate: report it with what QURATE_LOG=debug shows"
        place = innermost(error)
        return print_error(
            MachineError("no internal error", f"{type(error).__name__}: {error}", where=place, hint=hint, code=Code.INTERNAL), as_json
        )
