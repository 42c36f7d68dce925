"""The command `customers`, and customers of a dataset wherever a world is named.

Heavy modules (torch, polars) are imported inside the commands, so that `qurate --help` answers at once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from qurate.cli.arguments import duration
from qurate.cli.logs import Force
from qurate.cli.output import Terminal, interval, lines, number, table
from qurate.outputs import DATASET


def customers(
    ctx: typer.Context,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the directory of the customers")],
    *,
    truth: Annotated[
        str | None,
        typer.Option("--truth", metavar="ENV", help="the world that wrote the log, where it is known: policies are compared in both"),
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="TIME", help="stop fitting after this time, such as 5m")] = None,
    force: Force = False,
) -> None:
    """Learn customers from a log, for the world `fitted`, and say how far they may be trusted."""
    seconds = None if budget is None else duration(budget, "--budget")
    from qurate.experiments.customers import customers as run

    terminal: Terminal = ctx.obj
    with terminal.progress() as progress:
        result = run(
            dataset, output, seed=terminal.seed or 0, budget=seconds, truth=truth, force=force,
            progress=lambda what, done, total: progress(what, done, total),
        )  # fmt: skip
    terminal.result(result, lambda: print_customers(result))


def fitted_first(env: str | None, terminal: Terminal) -> str | None:
    """The world with the customers of a dataset in the dataset's place, where `fitted` is asked for from a dataset."""
    if env is None or "from=" not in env:
        return env
    path = next(part[len("from=") :] for part in env.split(",") if part.startswith("from="))
    if not env.startswith(("fitted,", "qurate/Fitted-v0,")) or not (Path(path) / DATASET).is_file():
        return env
    from qurate.experiments.customers import ready

    with terminal.progress() as progress:
        kept = ready(path, terminal.seed or 0, lambda what, done, total: progress(what, done, total))
    terminal.note(f"note: the customers of {path} are kept in {kept}; its validity.json says how far they may be trusted")
    return env.replace(f"from={path}", f"from={kept}")


def print_customers(result: dict[str, Any]) -> None:
    """The report for a person."""
    lines({"customers": result["customers"], "kind of log": result["kind"], "held-out decisions": result["decisions"]})
    columns = ["", "rate", "predicted", "calibration error", "log-likelihood", "best simple rate", "gain over it", "95 % interval"]
    rows = [_row(name, entry) for name, entry in {**result["events"], **result["visits"]}.items()]
    table(columns, rows, "on held-out decisions")
    for name, entry in result["amounts"].items():
        print(f"{name}: root mean squared error {number(entry['customers'])}, of the mean {number(entry['mean'])}, "
              f"of each item's mean {number(entry['per_item'])}")  # fmt: skip
    ranking = result["ranking"]
    if "refused" in ranking:
        print(ranking["refused"])
    else:
        head = ["policy", "value by the log", "95 % interval", "by the customers", "effective decisions"]
        shown = [[p["name"], p["log"], interval(p["ci"]), p["customers"], p["effective"]] for p in ranking["policies"]]
        table(head, shown, f"reward of one decision; rank correlation {number(ranking['rank_correlation'])}")
    if truth := result.get("truth"):
        head = ["policy", f"return in {truth['world']}", "among the customers"]
        table(head, [[p["name"], p["world"], p["customers"]] for p in truth["policies"]],
              f"rank correlation {number(truth['rank_correlation'])}")  # fmt: skip
    for note in result["notes"]:
        print(note)


def _row(name: str, entry: Mapping[str, Any]) -> list[Any]:
    if "note" in entry:
        return [name, entry["happened"] / max(entry["n"], 1), None, None, None, None, None, entry["note"]]
    calibration, gain = entry["calibration"], entry["gain"]
    best = f"{gain['over']} {number(entry['log_likelihood'][gain['over']])}"
    own = entry["log_likelihood"]["customers"]
    return [name, calibration["observed"], calibration["predicted"], calibration["error"], own, best, gain["mean"], interval(gain["ci"])]
