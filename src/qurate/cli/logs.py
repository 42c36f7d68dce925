"""`validate` and `ingest`: the same options, the same plan, the same checks."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from qurate.cli.arguments import pairs, share, types
from qurate.cli.output import Terminal, lines, listed, summary, table
from qurate.cli.plan_table import print_plan
from qurate.errors import Code, UserError
from qurate.outputs import DATASET, check_directory

Log = Annotated[list[Path], typer.Argument(metavar="LOG...", help="files, folders, or a `serve --data` folder")]
Map = Annotated[list[str] | None, typer.Option("--map", metavar="[FILE:]K=COL", help="our column K is COL, or COL.path; repeatable")]
Type = Annotated[list[str] | None, typer.Option("--type", metavar="[FILE=]NAME", help="event type of all rows, or of a file's")]
Items = Annotated[Path | None, typer.Option("--items", help="table of items: item_id, features, available_from, available_until")]
Users = Annotated[Path | None, typer.Option("--users", help="table of users: user_id and features")]
Decisions = Annotated[Path | None, typer.Option("--decisions", help="table of what was shown, and how probably")]
Layout = Annotated[str | None, typer.Option("--layout", metavar="NAME", help="where the columns do not tell it")]
MaxBad = Annotated[str, typer.Option("--max-bad", metavar="SHARE", help="bad rows that are tolerated")]
Value = Annotated[str | None, typer.Option("--value", metavar="EXPR", help='such as "quantity*price"')]
KeepDuplicates = Annotated[bool, typer.Option("--keep-duplicates", help="equal rows are further events")]
Sep = Annotated[str | None, typer.Option("--sep", metavar="SIGN", help=", ; | :: tab blank")]
Header = Annotated[Literal["yes", "no"] | None, typer.Option("--header", metavar="yes|no", help="the first line names the columns")]
Columns = Annotated[str | None, typer.Option("--columns", metavar="A,B,...", help="their names, where there is no header")]
Encoding = Annotated[str | None, typer.Option("--encoding", metavar="NAME", help="such as utf-8, latin-1, gbk, utf-16")]
TimeForm = Annotated[str | None, typer.Option("--time-form", metavar="FORM", help="such as D.M.Y, M/D/Y, YYYYMMDD, ms")]
Order = Annotated[str | None, typer.Option("--order", metavar="[COL]", help="an order in place of a time; alone: the file's")]
Episode = Annotated[Literal["session", "user"] | None, typer.Option("--episode", metavar="session|user", help="where an episode ends")]
ChurnAfter = Annotated[str | None, typer.Option("--churn-after", metavar="TIME", help="silence that means gone, such as 30d")]
TitleColumn = Annotated[str | None, typer.Option("--title-column", metavar="COL", help="titles of items, where no name says so")]
Force = Annotated[bool, typer.Option("--force", help="replace what qurate did not write, too")]
Rewards = Annotated[str | None, typer.Option("--rewards", metavar="TYPE=W,...", help="weights, such as click=1,purchase=10")]


def validate(
    ctx: typer.Context,
    log: Log,
    *,
    map: Map = None,
    type: Type = None,
    items: Items = None,
    users: Users = None,
    decisions: Decisions = None,
    layout: Layout = None,
    max_bad: MaxBad = "1%",
    value: Value = None,
    keep_duplicates: KeepDuplicates = False,
    sep: Sep = None,
    header: Header = None,
    columns: Columns = None,
    encoding: Encoding = None,
    time_form: TimeForm = None,
    order: Order = None,
    episode: Episode = None,
    churn_after: ChurnAfter = None,
    rewards: Rewards = None,
    title_column: TitleColumn = None,
) -> None:
    """Check a log: PASS or FAIL per check, with counts and the first rows; exit code 2 on FAIL."""
    request = _request(ctx, None)
    from qurate.mdp.reading import check

    terminal: Terminal = ctx.obj
    plan = _plan(terminal, request)
    with terminal.progress() as progress:
        checked = check(request, lambda stage: progress(stage, 0, 0), order=True)
    for note in checked.notes:
        terminal.note(f"note: {note}")
    result = {"ok": checked.ok, "checks": checked.checks, "notes": checked.notes, "plan": plan}

    def render() -> None:
        rows = [["PASS" if c["ok"] else "FAIL", c["name"], c["count"], listed(c["rows"]), c["message"]] for c in checked.checks]
        table(["result", "check", "count", "first rows", ""], rows)

    terminal.result(result, render)
    if not checked.ok:
        raise typer.Exit(2)


def ingest(
    ctx: typer.Context,
    log: Log,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="where the dataset goes")] = None,
    force: Force = False,
    plan: Annotated[bool, typer.Option("--plan", help="only say how the log would be read, from its first rows")] = False,
    map: Map = None,
    type: Type = None,
    items: Items = None,
    users: Users = None,
    decisions: Decisions = None,
    layout: Layout = None,
    max_bad: MaxBad = "1%",
    value: Value = None,
    keep_duplicates: KeepDuplicates = False,
    sep: Sep = None,
    header: Header = None,
    columns: Columns = None,
    encoding: Encoding = None,
    time_form: TimeForm = None,
    order: Order = None,
    episode: Episode = None,
    churn_after: ChurnAfter = None,
    rewards: Rewards = None,
    title_column: TitleColumn = None,
) -> None:
    """Turn a log into a dataset: states, actions, rewards, splits; bad rows go to rejects.csv."""
    if output is None and not plan:
        raise UserError("--output", "nothing", where="qurate ingest", hint="say where the dataset goes: -o DIR", code=Code.MISSING_OPTION)
    request = _request(ctx, output)
    if output is not None and not plan:
        check_directory(output, DATASET, force, [*log, *(table for table in (items, users, decisions) if table is not None)])
    from qurate.mdp.reading import check, refusal, refuse
    from qurate.mdp.reading import plan as plan_of

    terminal: Terminal = ctx.obj
    if plan:
        made = plan_of(request)
        terminal.result({"plan": made}, lambda: print_plan(made))
        if (error := refusal(request)) is not None:
            raise error
        return
    made = _plan(terminal, request)
    with terminal.progress() as progress:
        checked = check(request, lambda stage: progress(stage, 0, 0))
        refuse(request, checked)
        progress("writing the dataset", 0, 0)
        assert checked.dataset is not None and output is not None
        dataset = checked.dataset.write(output, force=force)
    for note in [*dataset.manifest["notes"], *checked.notes]:
        if note not in made["notes"]:
            terminal.note(f"note: {note}")
    result = summary(dataset.manifest, output)
    terminal.result({**result, "plan": made}, lambda: lines(result))


def _plan(terminal: Terminal, request: Any) -> dict[str, Any]:
    """The plan, printed to stderr before anything else happens."""
    from qurate.mdp.reading import plan

    made = plan(request)
    if not terminal.quiet:
        print_plan(made, stderr=True)
    return made


READ = ("map", "type", "layout", "decisions", "value", "keep_duplicates", "sep", "header", "columns", "encoding", "time_form", "order")
BUILD = ("episode", "churn_after", "rewards", "title_column")


def _request(ctx: typer.Context, output: Path | None) -> Any:
    """The options as arguments of the readers, and as typed."""
    given = dict(ctx.params)
    read: dict[str, Any] = {name: given[name] for name in READ if given[name] not in (None, False)}
    read["map"] = pairs(given["map"] or (), "--map") or None
    read["type"] = types(given["type"] or ()) or None
    if "sep" in read:
        read["separator"] = read.pop("sep")
    if "header" in read:
        read["header"] = read["header"] == "yes"
    if "columns" in read:
        read["columns"] = [name.strip() for name in read["columns"].split(",")]
    max_bad = share(given["max_bad"], "--max-bad")
    from qurate.mdp.reading import Request

    typed = {f"--{name.replace('_', '-')}": given[name] for name in (*READ, *BUILD, "items", "users") if given[name]}
    typed |= {"--order": True} if given["order"] == "" else {}
    typed |= {} if given["max_bad"] == "1%" else {"--max-bad": given["max_bad"]}
    build = {name: given[name] for name in BUILD}
    return Request(given["log"], read, build, given["items"], given["users"], max_bad, typed, output)
