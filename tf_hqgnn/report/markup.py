"""HTML in small pieces: everything that comes from data or settings goes through `text`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

# What no document may hold (NUL) or what a browser would act on (other control characters).
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5c6670; --page: #fff; --box: #f4f6f8; --line: #d5dae0;
  --hit: #d9f2dd }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #a0a9b2; --page: #14171a; --box: #1e2226;
  --line: #3a4148; --hit: #1f4a2a } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--page); overflow-wrap: anywhere }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .5rem 0 }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; padding-top: .6rem; border-top: 1px solid var(--line) }
p { margin: .4rem 0; max-width: 46rem } .soft, figcaption { color: var(--soft); font-size: .9rem }
.cards, .plots { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)) }
.plots { gap: 1rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)) }
.card { background: var(--box); border-radius: .5rem; padding: .6rem .8rem }
.card b { display: block; font-size: 1.45rem; line-height: 1.2 } .card span { color: var(--soft); font-size: .85rem }
figure { margin: .6rem 0 0; max-width: 36rem }
svg { display: block; width: 100%; max-width: 100%; height: auto } svg * { stroke-linejoin: round }
svg text { fill: currentColor; font-family: system-ui, sans-serif !important }
.scroll { overflow-x: auto; margin: .6rem 0 } .scroll td, .scroll th { overflow-wrap: normal }
table { border-collapse: collapse; font-size: .92rem } caption { text-align: left; color: var(--soft) }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr.hit td { background: var(--hit) }
details { border: 1px solid var(--line); border-radius: .5rem; padding: .4rem .8rem; margin: .5rem 0 }
summary { cursor: pointer } pre { overflow-x: auto; font-size: .85rem } code { background: var(--box) }
footer { margin-top: 2.5rem; padding-top: .6rem; border-top: 1px solid var(--line); color: var(--soft) }
"""


def text(value: object, longest: int = 120) -> str:
    r"""`value` as HTML text: escaped, without control characters, cut after `longest` characters.

    >>> text("<b>&\x00'"), text("abcdef", longest=4)
    ('&lt;b&gt;&amp;\ufffd&#x27;', 'abc…')
    """
    plain = _CONTROL.sub("\ufffd", str(value))
    return html.escape(plain if len(plain) <= longest else plain[: longest - 1] + "…")


def name(value: object) -> str:
    """An id or a title: as `text`, in a box of its own, so that right-to-left letters don't turn the rest around.

    >>> name("a&b")
    '<bdi>a&amp;b</bdi>'
    """
    return f"<bdi>{text(value)}</bdi>"


def number(value: float, digits: int = 4) -> str:
    """A figure of fixed digits; a hyphen for what isn't finite.

    >>> number(0.123456), number(float("nan")), number(1234567.0, 0)
    ('0.1235', '-', '1,234,567')
    """
    return f"{value:,.{digits}f}" if abs(value) < float("inf") else "-"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1, hits: Iterable[int] = ()) -> str:
    """A table that scrolls by itself where it is wider than the page.

    Args:
      header: plain text of the columns.
      rows: cells that are HTML already.
      numbers_from: columns from this one on are aligned as numbers.
      hits: the rows to highlight.
    """
    marked = set(hits)

    def line(tag: str, cells: Iterable[str]) -> str:
        classes = ((' class="number"' if column >= numbers_from else "") for column, _ in enumerate(header))
        return "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(classes, cells))

    starts = ("<tr>", '<tr class="hit">')
    head = line("th", map(text, header))
    body = "".join(f"{starts[place in marked]}{line('td', cells)}</tr>\n" for place, cells in enumerate(rows))
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'
    )


def figure(svg: str, caption: str) -> str:
    """A plot with what it shows; `caption` is HTML already."""
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>\n"


def plots(*figures: str) -> str:
    """Figures beside each other where there is room."""
    return f'<div class="plots">{"".join(figures)}</div>\n'


def section(title: str, *parts: str) -> str:
    """A part of the page; `title` is plain text, the others are HTML already."""
    return f"<section><h2>{text(title)}</h2>\n{''.join(parts)}</section>\n"


def paragraph(content: str, soft: bool = False) -> str:
    """A paragraph of HTML."""
    return f"{'<p class=soft>' if soft else '<p>'}{content}</p>\n"


def page(title: str, body: str) -> str:
    """The whole document. Its policy forbids a browser to load or run anything, whatever the data hold."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{text(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )
