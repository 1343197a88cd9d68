"""Self-contained HTML pages: one file, readable in print, with nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape as escape_html

from medloop.storage.names import visible

# Numbers, intervals, and means with their deviations.
FIGURE = re.compile(r"[-+0-9.,%±\[\] ]{1,40}")

STYLE = """
:root { --ink: #1b2733; --soft: #5b6b7a; --line: #dde4ea; --accent: #0b6e75; --severe: #b3261e; --warn: #9a5b00; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; color: var(--ink); margin: 0; }
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; } .soft { color: var(--soft); } code { font-size: .9em; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; } td.figure { white-space: nowrap; }
figure { margin: 1rem 0; display: inline-block; max-width: 100%; } img { max-width: 100%; height: auto; }
.figures > figure { max-width: 33rem; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 34rem; }
pre { background: #f4f7f9; border: 1px solid var(--line); padding: .8rem 1rem; white-space: pre-wrap; }
a { color: var(--accent); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem 2rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: 1rem; margin: 1rem 0; }
.cards > div { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; break-inside: avoid; }
.cards strong { display: block; font-size: 1.5rem; line-height: 1.25; color: var(--accent); }
ul.limits { border-left: 4px solid var(--warn); background: #fdf7ee; margin: 1rem 0; padding: .8rem 1rem .8rem 2rem; }
.badge { display: inline-block; padding: .05rem .55rem; border-radius: 1rem; color: #fff; font-size: .82rem; }
.severe, .no { background: var(--severe); } .warning { background: var(--warn); } .note { background: var(--soft); }
.yes { background: var(--accent); }
@media print { main { max-width: none; padding: 0; } h2 { break-after: avoid; } tr, figure { break-inside: avoid; } }
"""


def escape(text: str) -> str:
    """Text as HTML, with what is not seen or turns the direction of writing shown as escapes."""
    return escape_html(visible(text, keep="\n\t"))


def page(title: str, *, lead: str, body: Iterable[str]) -> str:
    """A whole page; the body's parts are HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f'<body><main><h1>{escape(title)}</h1><p class="soft">{escape(lead)}</p>\n'
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A part of the page under its heading."""
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(parts)


def paragraph(text: str, *, soft: bool = False) -> str:
    """Plain words."""
    return f'<p class="soft">{escape(text)}</p>' if soft else f"<p>{escape(text)}</p>"


def cards(facts: Iterable[tuple[str, str]]) -> str:
    """A few figures large, each with what it means."""
    shown = (f"<div><strong>{escape(figure)}</strong>{escape(words)}</div>" for figure, words in facts)
    return f'<div class="cards">{"".join(shown)}</div>'


def warnings(sentences: Iterable[str]) -> str:
    """What a reader must know before the figures."""
    return f'<ul class="limits">{"".join(f"<li>{escape(one)}</li>" for one in sentences)}</ul>'


def badge(word: str) -> str:
    """A word on the colour of its meaning."""
    return f'<span class="badge {escape(word)}">{escape(word)}</span>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, badges: bool = False) -> str:
    """A table; with `badges` the first column's words are badges. Figures are not broken over lines."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = ["".join(_cell(cell, is_badge=badges and number == 0) for number, cell in enumerate(row)) for row in rows]
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _cell(text: str, *, is_badge: bool) -> str:
    if is_badge:
        return f"<td>{badge(text)}</td>"
    kind = ' class="figure"' if FIGURE.fullmatch(text) else ""
    return f"<td{kind}>{escape(text)}</td>"


def figure(picture: bytes, *, caption: str) -> str:
    """A picture within the page, PNG or JPEG."""
    kind = "image/jpeg" if picture.startswith(b"\xff\xd8") else "image/png"
    data = base64.b64encode(picture).decode()
    image = f'<img alt="{escape(caption)}" src="data:{kind};base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def figures(*parts: str) -> str:
    """Pictures side by side where there is room."""
    return f'<div class="figures">{"".join(parts)}</div>'


def code(text: str) -> str:
    """Text as it is typed."""
    return f"<pre><code>{escape(text)}</code></pre>"


def link(address: str, words: str) -> str:
    """A way to another page of the same service."""
    return f'<p><a href="{escape(address)}">{escape(words)}</a></p>'
