"""The pieces of a page: one HTML file that needs nothing else (no script, no network).

Whatever comes from data (ids, names, notes) is escaped; the page's content security policy forbids scripts and loading.
"""

import html
import math
import re
from collections.abc import Sequence
from pathlib import Path

from qurate.errors import Code, MachineError
from qurate.files import replacing_file
from qurate.outputs import check_files, written


def whole_page(title: str, body: str, notes: Sequence[str] = ()) -> str:
    """A page from ready HTML; title and notes are text."""
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return PAGE.format(title=escape(title), style=style(), body=body, notes=f"<h2>Notes</h2>{said}" if said else "")


def save_page(text: str, path: str | Path, force: bool) -> None:
    """Writes a page beside `path` and renames it there: whole or not at all.

    Raises:
        UserError: a file is there that qurate did not write, and no `force`.
        MachineError: it cannot be written.
    """
    target = Path(path)
    check_files([target], force)
    try:
        with replacing_file(target) as beside:
            beside.write_bytes(text.encode("utf-8", "replace"))
        written([target])
    except OSError as error:
        raise MachineError(
            "a writable report file", error.strerror or str(error), where=str(target), hint="choose another path", code=Code.IO
        ) from None


def clean(value: object) -> str:
    """Text without control characters and lone surrogates, at most 120 characters."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", str(value))
    return text if len(text) <= 120 else text[:119] + "…"


def escape(value: object) -> str:
    """Text as HTML: markup escaped; notes may be long and are not cut."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", str(value))
    return html.escape(text, quote=True)


def name_cell(value: object) -> str:
    """A name or id from data: escaped, cut, and kept from reordering the text around it."""
    return f"<bdi>{escape(clean(value))}</bdi>"


def figure(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number for a table cell; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"


def span(ci: Sequence[float | None] | None, digits: int = 2, sign: bool = False) -> str:
    """An interval for a table cell; a dash where there is none."""
    if ci is None or ci[0] is None or ci[1] is None:
        return "–"
    return f"{figure(ci[0], digits, sign)} to {figure(ci[1], digits, sign)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] = (), text: int = 1) -> str:
    """An HTML table from ready cells; the first `text` columns are text, the others are numbers; marked rows stand out."""
    left = [' class="t"' if 0 < i < text else "" for i in range(len(head))]
    cells = "".join(f"<th{side}>{escape(h)}</th>" for side, h in zip(left, head))
    lines = []
    for i, row in enumerate(rows):
        strong = ' class="marked"' if i < len(marked) and marked[i] else ""
        lines.append(f"<tr{strong}>" + "".join(f"<td{side}>{cell}</td>" for side, cell in zip(left, row)) + "</tr>")
    top = f"<thead><tr>{cells}</tr></thead>" if any(head) else ""
    return f'<div class="wide"><table>{top}<tbody>{"".join(lines)}</tbody></table></div>'


def picture(svg: str, caption: str) -> str:
    return f'<figure>{svg}<figcaption class="caption">{escape(caption)}</figcaption></figure>'


def style() -> str:
    from qurate.evaluation import charts

    return CSS + charts.style()


CSS = (
    ":root{color-scheme:light dark;--ink:#1b1b1a;--muted:#63625d;--page:#fbfaf7;--line:#e3e2dc;--soft:#f1f0eb;--blue:#2a78d6;--hit:#dcebfb}"
    "@media (prefers-color-scheme:dark){:root{--ink:#f3f2ee;--muted:#aaa9a2;--page:#191918;--line:#3a3a37;--soft:#262624;--blue:#4a94ea;"
    "--hit:#1d3a5c}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);"
    "font:16px/1.55 system-ui,'Liberation Sans',Arial,sans-serif}"
    "main{max-width:60rem;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:1.7rem;line-height:1.2;margin:0 0 1rem}"
    "h2{font-size:1.2rem;margin:2.5rem 0 .75rem}h3{font-size:1rem;margin:1.75rem 0 .25rem}p{max-width:46rem;margin:.75rem 0}"
    ".lead{font-size:1.1rem;border-left:4px solid var(--muted);padding:.25rem 0 .25rem .9rem}.lead.better{border-color:#13855c}"
    ".lead.worse{border-color:#c4442f}figure{margin:1rem 0}svg{max-width:100%;height:auto;display:block}"
    "figure{overflow-x:auto}figure>svg{min-width:34rem}"
    ".legend{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;font-size:.85rem;margin:0 0 .4rem}.legend span{display:inline-flex;gap:.4rem;"
    "align-items:center}.caption,.ci{color:var(--muted);font-size:.85rem}.ci{white-space:nowrap}.wide{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;width:100%}"
    "th,td{padding:.45rem .7rem;text-align:right;border-bottom:1px solid var(--line);vertical-align:top}td{white-space:nowrap}"
    "th{color:var(--muted);font-weight:500;vertical-align:bottom}th:first-child,td:first-child{text-align:left;padding-left:.4rem}"
    "th.t,td.t{text-align:left}td.t{white-space:normal}"
    ".pair{display:grid;grid-template-columns:1fr 1fr;gap:0 2rem;align-items:start;width:min(94vw,80rem);position:relative;left:50%;"
    "transform:translateX(-50%)}.pair>*{min-width:0}.pair h4{margin:.5rem 0}.pair table{font-size:.82rem}"
    ".pair td,.pair th{padding:.3rem .4rem}.pair td:first-child,.pair th:first-child{padding-left:.4rem}"
    "@media (max-width:60rem){.pair{grid-template-columns:1fr}}"
    "tr.marked{background:var(--soft)}tr.marked bdi{font-weight:600}"
    ".journey{line-height:2;max-width:none}.chip{display:inline-block;background:var(--soft);border-radius:.35rem;padding:0 .5rem;"
    "margin:0 .3rem .2rem 0;font-size:.8rem;line-height:1.7}.chip.hit{background:var(--hit)}.visit{color:var(--muted);font-size:.8rem;"
    "margin:0 .5rem 0 .2rem}"
)

PAGE = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    "<title>{title}</title><style>{style}</style></head>\n<body><main><h1>{title}</h1>{body}{notes}</main></body></html>\n"
)
