"""A page of headings, paragraphs, tables and figures, written as Markdown and as one HTML file that needs no other.

Every text is taken as it is: what in it would be markup is escaped in both.
"""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from codir_jax.convert.markdown import escaped
from codir_jax.processes import whole


class Heading(NamedTuple):
    """The title of a part; of the page itself the level is 1."""

    text: str
    level: int = 2


class Paragraph(NamedTuple):
    """Sentences."""

    text: str


class Table(NamedTuple):
    """A header, and rows of as many cells; the columns after the first `num_texts` are numbers (None: none is)."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_texts: int | None = 1


class Code(NamedTuple):
    """Lines to copy."""

    text: str


class Figure(NamedTuple):
    """A picture in SVG: its path from the folder of the page, and what it shows."""

    path: str
    text: str


Block = Heading | Paragraph | Table | Code | Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 68rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; margin: 0.8rem 0; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #e3e3e3; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
th { border-bottom: 2px solid #999; } tbody tr:hover { background: #f6f6f6; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.number { white-space: normal; }
pre { background: #f4f4f4; padding: 0.8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; } figcaption { color: #555; font-size: 0.9rem; }
"""
# Nothing is loaded from elsewhere, and no script runs, whatever the texts hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write(folder: Path, name: str, blocks: Sequence[Block]) -> None:
    """Writes `name`.md and `name`.html into the folder, in which the figures lie."""
    whole.write_text(folder / f"{name}.md", markdown(blocks))
    whole.write_text(folder / f"{name}.html", page(blocks, folder))


def markdown(blocks: Sequence[Block]) -> str:
    """The page as Markdown of GitHub's kind."""
    return "\n\n".join(_in_markdown(block) for block in blocks) + "\n"


def _in_markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {escaped(text)}"
        case Paragraph(text):
            return escaped(text)
        case Code(text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return f"{fence}\n{text}\n{fence}"
        case Figure(path, text):
            return f"![{escaped(text)}]({path})"
        case Table(header, rows, _):
            lines = [[escaped(cell) for cell in row] for row in (header, *rows)]
            widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
            told = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
            return "\n".join(
                (
                    f"| {told[0]} |",
                    f"|{'|'.join('-' * (width + 2) for width in widths)}|",
                    *(f"| {line} |" for line in told[1:]),
                )
            )


def page(blocks: Sequence[Block], folder: Path) -> str:
    """The page as HTML; the figures, read from the folder, are parts of it."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "report")
    body = "\n".join(_in_html(block, folder) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _in_html(block: Block, folder: Path) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Figure(path, text):
            data, told = base64.b64encode((folder / path).read_bytes()).decode(), html.escape(text)
            return (
                f'<figure><img alt="{told}" src="data:image/svg+xml;base64,{data}"><figcaption>{told}</figcaption>'
                "</figure>"
            )
        case Table(header, rows, num_texts):
            num_texts = len(header) if num_texts is None else num_texts

            def line(tag: str, cells: Sequence[str]) -> str:
                looks = ["" if i < num_texts else ' class="number"' for i in range(len(cells))]
                told = (f"<{tag}{look}>{html.escape(cell)}</{tag}>" for look, cell in zip(looks, cells, strict=True))
                return f"<tr>{''.join(told)}</tr>"

            body = "\n".join(line("td", row) for row in rows)
            whole = f"<thead>{line('th', header)}</thead>\n<tbody>\n{body}\n</tbody>"
            return f'<div class="wide"><table>\n{whole}\n</table></div>'
