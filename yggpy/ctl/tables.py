"""Tables that look like ``yggdrasilctl``'s: a frame or none, titles centred, cells to the left, never cut or wrapped.

``rich`` lays them out. It is told a width that no table reaches, so that what goes into a pipe or a narrow terminal is
the same as everywhere: scripts cut these lines into columns.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from yggpy.printable import printable

__all__ = ["Table", "render_table"]

_TAB = " " * 4
_UNLIMITED = 1 << 24
"""Columns of the imagined terminal. A cell cannot be longer, since an answer has a size limit of its own."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, all of one length; ``titles`` are those of the columns, none for a table of names and values."""

    titles: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def render_table(table: Table, *, borders: bool = True) -> str:
    """Return the lines of ``table``, each ended by a newline. Control characters in cells are shown as escapes."""
    # Loaded here, since half of what the program prints is no table.
    from rich import box
    from rich.console import Console
    from rich.table import Table as Layout
    from rich.text import Text

    layout = Layout(
        box=box.SQUARE if borders else None,
        safe_box=False,
        show_header=bool(table.titles),
        show_edge=borders,
        padding=(0, 1),
        header_style="",
    )
    for title in table.titles or [""] * len(table.rows[0] if table.rows else ()):
        layout.add_column(Text(title, justify="center"), justify="left", no_wrap=True, overflow="crop")
    for row in table.rows:
        layout.add_row(*(Text(_cell(text)) for text in row))
    paper = io.StringIO()
    Console(
        file=paper,
        width=_UNLIMITED,
        color_system=None,
        force_terminal=False,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    ).print(layout)
    text = paper.getvalue()
    if borders and table.titles and not table.rows:
        # Go closes the frame right under the titles; rich leaves a line of its own between.
        lines = text.splitlines(keepends=True)
        text = "".join(lines[:2] + lines[-1:])
    return text


def _cell(text: str) -> str:
    return printable(text.strip().replace("\t", _TAB))
