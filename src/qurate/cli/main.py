"""The command line: reads options, calls the stage, prints the result. No logic of its own.

Heavy modules (torch, polars) are imported inside the commands, so that `qurate --help` answers at once.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from qurate.cli import logs
from qurate.cli.arguments import (
    arrange,
    duration,
    ids,
    known_command,
    one_of,
    pairs,
    share,
    usage_error,
)
from qurate.cli.output import (
    Terminal,
    file_format,
    innermost,
    library_notes,
    lines,
    listed,
    machine_error,
    note_exclusion,
    number,
    print_comparison,
    print_decision,
    print_error,
    print_evaluation,
    print_settings,
    write_tables,
)
from qurate.errors import Code, MachineError, QurateError, UserError, nearest
from qurate.outputs import MODEL, check_directory, check_files

DEVICES = ("auto", "cpu", "cuda")

EPILOG = "Global options may stand anywhere: --json --seed N --threads N --device auto|cpu|cuda --quiet"

HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(name="qurate", context_settings=HELP, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)

Output = Annotated[Path, typer.Option("--output", "-o", help="where the result goes")]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="a model directory")]
Env = Annotated[str | None, typer.Option("--env", metavar="ID", help="a simulator or Gymnasium environment, or package.module:factory")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="independent repetitions; intervals need several")]
Rewards = logs.Rewards
Force = logs.Force
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="RULE|IDS", help="what a customer has seen|purchased, event types (purchase:30d), none; or item ids"),
]


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
    if device == "cuda":
        raise UserError(
            "auto or cpu", "cuda", where="--device", hint="this version computes on the CPU; leave the option out", code=Code.NO_DEVICE
        )
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read by torch when a command imports it
        os.environ[name] = str(threads)
    library_notes(quiet)
    ctx.obj = Terminal(json, quiet, seed, threads, device)


@app.command(epilog=EPILOG)
def demo(ctx: typer.Context, output: Output = Path("qurate-demo"), force: Force = False) -> None:
    """Simulate a shop, learn from its log, and compare with every baseline (about 90 seconds)."""
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
    users: Annotated[int, typer.Option("--users", min=1, help="customers")] = 1000,
    steps: Annotated[int, typer.Option("--steps", min=1, help="decisions per customer at most")] = 50,
    policy: Annotated[str, typer.Option("--policy", metavar="NAME|MODEL", help="random, popularity or a model directory")] = "random",
    slate: Annotated[int, typer.Option("--slate", min=1, help="items shown per decision")] = 1,
    trace: Annotated[
        int, typer.Option("--trace", min=0, metavar="N", help="also write what the first N customers met, decision by decision")
    ] = 0,
    force: Force = False,
) -> None:
    """Write the event log of simulated customers, with the probabilities of what they were shown."""
    from qurate.experiments.simulate import simulate_log

    terminal: Terminal = ctx.obj
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
            progress=lambda done, all: progress("simulating", done, all),
        )
    terminal.result(result, lambda: lines(result))


app.command(epilog=EPILOG)(logs.validate)
app.command(epilog=EPILOG)(logs.ingest)


@app.command(epilog=EPILOG)
def inspect(ctx: typer.Context, dataset: Annotated[Path, typer.Argument(metavar="DATASET")]) -> None:
    """What is in a dataset, and whether it needs reinforcement learning at all."""
    from qurate.evaluation.needs_rl import inspect as run
    from qurate.mdp.dataset import Dataset

    terminal: Terminal = ctx.obj
    with terminal.progress() as progress:
        progress("inspecting", 0, 0)
        result = run(Dataset.read(dataset), terminal.seed or 0)
    terminal.result(result, lambda: lines({k: listed(v) for k, v in result.items()}))


@app.command(epilog=EPILOG)
def train(
    ctx: typer.Context,
    dataset: Annotated[Path | None, typer.Argument(metavar="[DATASET]")] = None,
    env: Env = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="the model directory")] = None,
    algorithm: Annotated[
        str | None, typer.Option("--algorithm", help="dqn, double_dqn, popularity, item_knn, ...", show_default="dqn")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="updates (DATASET) or decisions (--env)")] = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="TIME", help="stop after this time, such as 10m")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="MODEL", help="go on from a model's checkpoint")] = None,
    rewards: Rewards = None,
    no_histories: Annotated[bool, typer.Option("--no-histories", help="keep no user's events in the model")] = False,
    set: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a setting; `--set help` lists them")] = None,
    force: Force = False,
) -> None:
    """Learn a policy from a dataset or in an environment."""
    terminal: Terminal = ctx.obj
    if set == ["help"]:
        return print_settings(terminal)
    if resume is None or (dataset is not None and env is not None):
        one_of(dataset, env)
    if output is None:
        raise UserError("-o MODEL", "none", where="qurate train", hint="say where the model goes", code=Code.MISSING_OPTION)
    check_directory(output, MODEL, force)
    settings, seconds = pairs(set or (), "--set"), duration(budget, "--budget") if budget else None
    from qurate.training.train import train as run

    with terminal.progress() as progress:
        progress("preparing", 0, 0)
        model = run(
            dataset,
            env,
            algorithm,
            seed=terminal.seed,
            steps=steps,
            budget=seconds,
            resume=resume,
            rewards=rewards,
            histories=not no_histories,
            progress=lambda done, wanted, figures: progress("training", done, wanted),
            **settings,
        )
    model.save(output, force=force)
    measured = dict(model.metrics)
    curve = measured.pop("curve")
    figures = {name: measured.pop(name) for name in ("alarms", "skipped", "decisions") if name in measured} | (curve[-1] if curve else {})
    result = {"model": str(output), "algorithm": model.algorithm, **measured, "metrics": figures}
    terminal.result(result, lambda: lines({k: listed(v) for k, v in result.items()}))
    if measured["stopped"] == "interrupted":
        terminal.note(f"interrupted; the checkpoint is saved: go on with --resume {output}")
        raise typer.Exit(130)


@app.command(epilog=EPILOG)
def evaluate(
    ctx: typer.Context,
    model: ModelPath,
    dataset: Annotated[Path | None, typer.Argument(metavar="[DATASET]")] = None,
    env: Env = None,
    seeds: Seeds = 5,
    exclude: Exclude = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="also write the report as one page")] = None,
    force: Force = False,
) -> None:
    """Rank held-out later choices (DATASET), or show items to simulated customers (--env), beside the baselines."""
    one_of(dataset, env)
    if html is not None:
        check_files([html], force)
    from qurate.experiments.evaluate import evaluate as run

    terminal: Terminal = ctx.obj
    with terminal.progress() as progress:
        progress("evaluating", 0, 0)
        report = run(
            model,
            dataset,
            env,
            seeds,
            exclude=ids(exclude or ()),
            progress=lambda what, done, total: progress("evaluating", done, total, what),
        )
    if html is not None:
        report.save_html(html, force=force)
    result = report.to_dict()
    terminal.result(result, lambda: print_evaluation(result))


@app.command(epilog=EPILOG)
def compare(
    ctx: typer.Context,
    policies: Annotated[
        list[str],
        typer.Argument(
            metavar="POLICY...", help="model directories, or random popularity static item_knn session_knn recent content myopic"
        ),
    ],
    env: Annotated[str, typer.Option("--env", metavar="ID", help="the environment they meet customers in")],
    seeds: Seeds = 5,
) -> None:
    """Let several policies meet the same customers; paired differences with intervals."""
    from qurate.experiments.compare import compare as run

    terminal: Terminal = ctx.obj
    with terminal.progress() as progress:
        result = run(
            policies, env, seeds, seed=terminal.seed or 0, progress=lambda what, done, total: progress("comparing", done, total, what)
        )
    terminal.result(result, lambda: print_comparison(result))


@app.command(epilog=EPILOG)
def recommend(
    ctx: typer.Context,
    model: ModelPath,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="whom to recommend to")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many items")] = 10,
    candidates: Annotated[
        list[str] | None, typer.Option("--candidates", metavar="IDS", help="choose among these; comma-separated or repeated")
    ] = None,
    exclude: Exclude = None,
    explain: Annotated[bool, typer.Option("--explain", help="what each item is worth now and later")] = False,
    all_users: Annotated[bool, typer.Option("--all-users", help="a row for every known user; needs -o")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file for --all-users: .csv, .jsonl or .parquet")] = None,
    force: Force = False,
) -> None:
    """The k items to show a user now."""
    if (user is None) != all_users or all_users != (output is not None):
        raise UserError(
            "--user ID, or --all-users with -o FILE",
            "another combination",
            where="qurate recommend",
            hint="choose one",
            code=Code.BAD_OPTIONS,
        )
    if all_users and (candidates or explain):
        got = "--candidates or --explain"
        raise UserError(
            "-k, --exclude and -o beside --all-users", got, where="qurate recommend", hint="they go with --user", code=Code.BAD_OPTIONS
        )
    terminal: Terminal = ctx.obj
    if output is None:
        from qurate.models.model import load

        among, seed = None if candidates is None else ids(candidates), terminal.seed or 0
        loaded = load(model)
        decision = loaded.recommend(user, k, among, ids(exclude or ()), explain=explain, seed=seed)
        note_exclusion(terminal, loaded, ids(exclude or ()))
        return print_decision(terminal, decision, k)
    file_format(output)
    check_files([output], force)
    from qurate.models.model import load
    from qurate.models.recommend import recommend_all

    with terminal.progress() as progress:
        loaded = load(model)
        rows, users = write_tables(
            recommend_all(loaded, k, ids(exclude or ())), output, lambda done: progress("recommending", done, 0), force
        )
    note_exclusion(terminal, loaded, ids(exclude or ()))
    if rows < k * users:
        terminal.note(f"note: {rows / max(users, 1):.3g} items can be shown on average, {k} were asked for")
    result = {"file": str(output), "users": users, "rows": rows, "model_version": loaded.version}
    terminal.result(result, lambda: lines(result))


@app.command(epilog=EPILOG)
def serve(
    ctx: typer.Context,
    model: ModelPath,
    host: Annotated[str, typer.Option("--host", help="loopback only, until there are API keys")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="where decisions and events are kept")] = Path("qurate-data"),
    explore: Annotated[str, typer.Option("--explore", metavar="SHARE", help="answers drawn at random, so that the log can teach")] = "10%",
) -> None:
    """Answer over HTTP, and keep every decision with its probability, and every event."""
    exploring = share(explore, "--explore")
    from qurate.choosing.selection import epsilon_greedy_rule
    from qurate.models.model import load
    from qurate.serving.http import serve as run

    terminal: Terminal = ctx.obj
    run(load(model), data, host, port, terminal.seed, epsilon_greedy_rule(exploring))


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
    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    as_json = "--json" in args
    try:
        args = arrange(args)
        known_command(args, [command.callback.__name__ for command in app.registered_commands if command.callback])
        return int(app(args, prog_name="qurate", standalone_mode=False) or 0)
    except QurateError as error:
        return print_error(error, as_json)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return print_error(machine_error(error), as_json)
    except MemoryError:
        hint = "use a smaller batch_size or window, or a smaller log"
        return print_error(MachineError("enough memory", "too little", where=args[0], hint=hint, code=Code.OUT_OF_MEMORY), as_json)
    except Exception as error:
        if hasattr(error, "format_message"):
            return print_error(usage_error(error), as_json)
        if os.environ.get("QURATE_LOG") == "debug":
            raise
        hint = "this is a fault of qurate: report it with what QURATE_LOG=debug shows"
        place = innermost(error)
        return print_error(
            MachineError("no internal error", f"{type(error).__name__}: {error}", where=place, hint=hint, code=Code.INTERNAL), as_json
        )
