"""Commands that make and use models: train, tune, evaluate, compare, recommend, serve.

Heavy modules (torch, polars) are imported inside the commands, so that `qurate --help` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from qurate.cli.arguments import duration, ids, json_object, one_of, pairs, share
from qurate.cli.customers import fitted_first
from qurate.cli.logs import Force, Rewards
from qurate.cli.output import (
    Terminal,
    lines,
    listed,
    note_exclusion,
    note_order,
    print_comparison,
    print_decision,
    print_evaluation,
    print_settings,
)
from qurate.cli.table_files import file_format, watched_order, with_titles, write_tables
from qurate.errors import Code, UserError, nearest
from qurate.outputs import MODEL, check_directory, check_files

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="a model directory")]
Env = Annotated[str | None, typer.Option("--env", metavar="ID", help="a simulator or Gymnasium environment, or package.module:factory")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="independent repetitions; intervals need several")]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="RULE|IDS", help="what a customer has seen|purchased, event types (purchase:30d), none; or item ids"),
]


def train(
    ctx: typer.Context,
    dataset: Annotated[Path | None, typer.Argument(metavar="[DATASET]")] = None,
    *,
    env: Env = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="the model directory")] = None,
    algorithm: Annotated[
        str | None, typer.Option("--algorithm", help="dqn, double_dqn, popularity, item_knn, ...", show_default="dqn")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="updates (DATASET) or decisions (--env)")] = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="TIME", help="stop after this time, such as 10m")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="MODEL", help="go on from a model's checkpoint")] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="MODEL", help="begin with the weights, settings and rewards of an earlier model")
    ] = None,
    rewards: Rewards = None,
    keep_diverged: Annotated[bool, typer.Option("--keep-diverged", help="write the model although its losses were not finite")] = False,
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
    check_directory(output, MODEL, force, [] if dataset is None else [dataset])
    env = fitted_first(env, terminal)
    settings, seconds = pairs(set or (), "--set"), None if budget is None else duration(budget, "--budget")
    from qurate.experiments.model_page import model_page
    from qurate.mdp.storage import Dataset
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
            start=start,
            histories=False if no_histories else None,
            keep_diverged=keep_diverged,
            device=terminal.device,
            progress=lambda done, wanted, figures: progress("training", done, wanted),
            **settings,
        )
        progress("writing the model and its page", 0, 0)
        data = dataset or (model.dataset if model.environment is None else None)
        model.save(output, force=force, page=model_page(model, None if data is None else Dataset.read(data), str(output)))
    _print_trained(terminal, model, output)


def _print_trained(terminal: Terminal, model: Any, output: Path) -> None:
    measured = dict(model.metrics)
    run = {name: measured.pop(name) for name in ("steps", "seconds", "stopped")}
    curve, _ = measured.pop("curve"), measured.pop("updates", None)
    result = {"model": str(output), "algorithm": model.algorithm, **run, "metrics": measured | (curve[-1] if curve else {})}
    shown = {name: value for name, value in result["metrics"].items() if not isinstance(value, dict)}
    parts = {name: value for name, value in measured.items() if isinstance(value, dict)}
    # lists (points of a figure) are drawn on the page
    parts = {name: {k: v for k, v in of.items() if not isinstance(v, list)} for name, of in parts.items()}
    text = {**result, "metrics": shown, **parts}
    terminal.result(result, lambda: lines({k: listed(v) for k, v in {**text, "report": output / "report.html"}.items()}))
    if note := measured.get("calibration", {}).get("note"):
        terminal.note(f"note: {note}")
    if run["stopped"] == "interrupted":
        terminal.note(f"interrupted; the checkpoint is saved: go on with --resume {output}")
        raise typer.Exit(130)


def tune(
    ctx: typer.Context,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET")],
    *,
    algorithm: Annotated[str, typer.Option("--algorithm", help="whose settings are searched: dqn, gru4rec, als, ...")],
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="search for this time, such as 30m")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the folder of the results; an earlier search there goes on")],
    force: Force = False,
) -> None:
    """Search the settings of an algorithm on the validation split of a dataset."""
    seconds = duration(budget, "--budget")
    from qurate.experiments.tune import tune as run

    terminal: Terminal = ctx.obj
    with terminal.progress() as progress:
        result = run(
            dataset,
            algorithm,
            output,
            budget=seconds,
            seed=terminal.seed or 0,
            force=force,
            progress=lambda done, wanted, what: progress("tuning", done, wanted, what),
        )
    best = result["best"] or {"value": None, "settings": {}}
    shown = {k: v for k, v in result.items() if k not in ("best", "notes", "command")}
    text = {**shown, "best": best["value"], "settings": best["settings"] or "the defaults", "train": result["command"]}
    terminal.result(result, lambda: lines({k: listed(v) for k, v in text.items()}))
    for note in result["notes"]:
        terminal.note(f"note: {note}")
    if result["stopped"] == "interrupted":
        terminal.note(f"interrupted; {output} keeps what was done: go on with the same command")
        raise typer.Exit(130)


def evaluate(
    ctx: typer.Context,
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL... [DATASET]", help="model directories; beside the first also baselines by name")
    ],
    *,
    env: Env = None,
    seeds: Seeds = 5,
    exclude: Exclude = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="also write the report as one page")] = None,
    force: Force = False,
) -> None:
    """Rank held-out later choices (DATASET), or show items to simulated customers (--env), beside the baselines.

    Several models: which one to use, if the later choices can tell.
    """
    many, dataset = (models[:-1], models[-1]) if env is None and len(models) > 1 else (models, None)
    one_of(dataset, env)
    if env is not None and len(many) > 1:
        hint = f"qurate compare {' '.join(map(str, many))} --env {env}"
        raise UserError("one model with --env", f"{len(many)}", where="qurate evaluate", hint=hint, code=Code.BAD_OPTIONS)
    if html is not None:
        check_files([html], force)
    from qurate.experiments.evaluate import evaluate as run
    from qurate.experiments.generations import evaluate_many

    terminal: Terminal = ctx.obj
    env = fitted_first(env, terminal)
    with terminal.progress() as progress:
        progress("evaluating", 0, 0)
        report = (
            evaluate_many(many, dataset, exclude=ids(exclude or ()))
            if dataset is not None and len(many) > 1
            else run(
                many[0],
                dataset,
                env,
                seeds,
                exclude=ids(exclude or ()),
                progress=lambda what, done, total: progress("evaluating", done, total, what),
            )
        )
    if html is not None:
        report.save_html(html, force=force)
    result = report.to_dict()
    terminal.result(result, lambda: print_evaluation(result))


def play(
    ctx: typer.Context,
    model: ModelPath,
    *,
    env: Annotated[str, typer.Option("--env", metavar="ID", help="a Gymnasium task that draws pictures, or package.module:factory")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="where the GIF goes")],
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="played one after the other")] = 1,
    force: Force = False,
) -> None:
    """Play whole episodes of a task, and write them as a GIF."""
    from qurate.experiments.play import play as run

    terminal: Terminal = ctx.obj
    with terminal.progress() as progress:
        progress("playing", 0, 0)
        result = run(model, env, output, seed=terminal.seed or 0, episodes=episodes, force=force)
    terminal.result(result, lambda: lines({**result, "returns": listed(result["returns"])}))


def compare(
    ctx: typer.Context,
    policies: Annotated[
        list[str],
        typer.Argument(
            metavar="POLICY...",
            help="model directories, or random popularity static item_knn session_knn recent frequent content ease als bpr gru4rec sasrec "
            "linucb thompson myopic",
        ),
    ],
    env: Annotated[str, typer.Option("--env", metavar="ID", help="the environment they meet customers in")],
    seeds: Seeds = 5,
    exclude: Exclude = None,
) -> None:
    """Let several policies meet the same customers; paired differences with intervals."""
    from qurate.experiments.compare import compare as run

    terminal: Terminal = ctx.obj
    env = fitted_first(env, terminal) or env
    with terminal.progress() as progress:
        result = run(
            policies,
            env,
            seeds,
            seed=terminal.seed or 0,
            exclude=ids(exclude or ()),
            progress=lambda what, done, total: progress("comparing", done, total, what),
        )
    terminal.result(result, lambda: print_comparison(result))


def recommend(
    ctx: typer.Context,
    model: ModelPath,
    *,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="whom to recommend to")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="how many items")] = 10,
    candidates: Annotated[
        list[str] | None, typer.Option("--candidates", metavar="IDS", help="choose among these; comma-separated or repeated")
    ] = None,
    candidate_features: Annotated[
        str | None, typer.Option("--candidate-features", metavar="JSON", help='what is known of each: {"price": [9.5, null]}')
    ] = None,
    exclude: Exclude = None,
    explain: Annotated[bool, typer.Option("--explain", help="what each item is worth now and later")] = False,
    all_users: Annotated[bool, typer.Option("--all-users", help="a row for every known user; needs -o")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file for --all-users: .csv, .jsonl or .parquet")] = None,
    force: Force = False,
) -> None:
    """The k items to show a user now."""
    if (user is None) != all_users or all_users != (output is not None):
        expected, got = "--user ID, or --all-users with -o FILE", "another combination"
        raise UserError(expected, got, where="qurate recommend", hint="choose one", code=Code.BAD_OPTIONS)
    if all_users and (candidates or explain or candidate_features):
        got = "--candidates, --candidate-features or --explain"
        raise UserError(
            "-k, --exclude and -o beside --all-users", got, where="qurate recommend", hint="they go with --user", code=Code.BAD_OPTIONS
        )
    terminal: Terminal = ctx.obj
    if output is None:
        from qurate.models.model import load
        from qurate.models.recommend import check_candidate_features

        among, seed = None if candidates is None else ids(candidates), terminal.seed or 0
        known = None if candidate_features is None else json_object(candidate_features, "--candidate-features")
        if known:
            check_candidate_features(known, among, where="--candidate-features", joint=" ")
        loaded = load(model)
        decision = loaded.recommend(user, k, among, ids(exclude or ()), explain=explain, candidate_features=known, seed=seed)
        note_exclusion(terminal, loaded, ids(exclude or ()))
        return print_decision(terminal, decision, k, loaded)
    file_format(output)
    check_files([output], force)
    from qurate.models.model import load
    from qurate.models.recommend import recommend_all, titles_of

    with terminal.progress() as progress:
        loaded = load(model)
        rising: list[bool] = []
        tables = with_titles(watched_order(recommend_all(loaded, k, ids(exclude or ())), rising), titles_of(loaded))
        rows, users = write_tables(tables, output, lambda done: progress("recommending", done, 0), force)
    note_exclusion(terminal, loaded, ids(exclude or ()))
    note_order(terminal, loaded, any(rising))
    if rows < k * users:
        on_average = " on average" if rows % users else ""
        terminal.note(f"note: {rows / users:.3g} items can be shown{on_average}, {k} were asked for")
    result = {"file": str(output), "users": users, "rows": rows, "model_version": loaded.version}
    terminal.result(result, lambda: lines(result))


def serve(
    ctx: typer.Context,
    model: ModelPath,
    host: Annotated[str, typer.Option("--host", help="loopback only, until there are API keys")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="where decisions and events are kept")] = Path("qurate-data"),
    explore: Annotated[str, typer.Option("--explore", metavar="SHARE", help="answers drawn at random, so that the log can teach")] = "10%",
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="RULE", help="not shown again: what was seen|purchased, event types (purchase:30d), or none"),
    ] = None,
) -> None:
    """Answer over HTTP, and keep every decision with its probability, and every event."""
    exploring = share(explore, "--explore")
    from qurate.models.model import load
    from qurate.models.recommend import exclusion, require_catalogue
    from qurate.serving.api.server import serve as run

    terminal: Terminal = ctx.obj
    loaded = load(model)
    require_catalogue(loaded, "qurate serve")
    given = ids(exclude or ())
    others, rule = exclusion(loaded, given)
    if others:
        hint = nearest(others[0].partition(":")[0], ["seen", "purchased", "none", *loaded.vocabulary.types])
        expected = "seen, purchased, none or event types of the model, perhaps within a time (purchase:30d)"
        raise UserError(expected, others[0], where="--exclude", hint=hint, code=Code.BAD_OPTIONS)

    def told(url: str, excluded: str, note: str) -> None:
        terminal.note(note)
        print(f"serving {loaded.version} at {url}", file=sys.stderr, flush=True)  # also with --quiet: nobody else knows the port
        if terminal.json:
            of_data = {"data": str(data), "explore": exploring, "exclude": excluded}
            terminal.result({"url": url, "model_version": loaded.version, **of_data}, lambda: None)

    run(loaded, data, host, port, terminal.seed, exploring, rule if given else None, told)
