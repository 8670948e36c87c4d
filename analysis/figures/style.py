"""How every figure looks and is written: readable in grey and by the colour-blind, the same bytes every time.

A method keeps its colour (Okabe and Ito 2008, then Tol's muted ones), marker and line style in all figures. Each figure
is written as SVG, PDF and PNG, with its numbers as CSV beside it.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from l2t_ray.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 160
KINDS = ("svg", "pdf", "png", "csv")  # of the files of a figure
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.0,
    "svg.hashsalt": "l2t-ray",
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}


Marker = str | tuple[int, int]  # a tuple is a star: its points, 1
Line = str | tuple[float, tuple[float, ...]]  # a tuple are dashes: offset, lengths


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    color: str
    marker: Marker
    line: Line


DOTTED, LONG, TWICE = (0.0, (1.0, 2.5)), (0.0, (8.0, 2.0)), (0.0, (5.0, 1.0, 1.0, 1.0, 1.0, 1.0))
LOOKS = {
    "scratch": Look("#000000", "o", ":"),
    "ufm": Look("#56B4E9", "s", "-."),
    "l2t_ww": Look("#E69F00", "^", "--"),
    "l2t_www": Look("#0072B2", "D", "-"),
    "finetune": Look("#009E73", "v", TWICE),
    "intermediate_finetune": Look("#D55E00", "P", "-."),
    "hint": Look("#CC79A7", "X", "--"),
    "attention_transfer": Look("#999999", "*", ":"),
    "factor_transfer": Look("#882255", "<", LONG),
    "spottune": Look("#332288", ">", DOTTED),
    "distillation": Look("#999933", "p", "-"),
}
STYLES = tuple(LOOKS.values())
# of methods of one's own and of variants: no marker, and no colour with its line, of the above
MARKERS: tuple[Marker, ...] = ("h", "d", "8", (4, 1))
LINES: tuple[Line, ...] = ("-", "--", "-.", ":", TWICE)
USED = {(style.color, style.line) for style in STYLES}
STROKES = [(style.color, line) for style, line in product(STYLES, LINES) if (style.color, line) not in USED]
STEP = 7  # has no divisor in common with their number, so that it reaches all


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for every name, the same whatever else is drawn.

    Args:
        names: methods, perhaps with a variant after a slash.

    Returns:
        Built-in methods have their own. Another name's comes from its letters; where a name before it in the alphabet
        has that colour and line, it takes the next, and after `len(STROKES)` names they repeat.
    """
    names = [*names]
    found = dict(LOOKS)
    taken: set[int] = set()
    for name in sorted({*names} - LOOKS.keys()):
        digest = hashlib.sha256(name.encode()).digest()
        place = int.from_bytes(digest[:4], "big") % len(STROKES)
        while place in taken and len(taken) < len(STROKES):
            place = (place + STEP) % len(STROKES)
        taken.add(place)
        color, line = STROKES[place]
        found[name] = Look(color, MARKERS[digest[4] % len(MARKERS)], line)
    return {name: found[name] for name in names}


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        name: of its files.
        caption: what it shows, with n and the meaning of the bands.
        svg: the figure as text, for the report.
        numbers: what is drawn.
    """

    name: str
    caption: str
    svg: str
    numbers: "pd.DataFrame"


@contextmanager
def drawing(
    columns: int = 1, rows: int = 1, *, width: float = 6.4, height: float = 4.0, **layout: Any
) -> Iterator[Any]:
    """A figure in the house's style; no display is needed.

    Args:
        columns: of axes.
        rows: of axes.
        width: in inches.
        height: in inches.
        **layout: further arguments of `Figure.subplots`.

    Yields:
        The figure and its axes as a two-dimensional array.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(width, height))
        yield figure, figure.subplots(rows, columns, squeeze=False, **layout)


def label_epochs(ax: Any) -> None:
    """Names the horizontal axis; ticks stand at whole epochs.

    Args:
        ax: of matplotlib.
    """
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def hide_rest(axes: Any, n_used: int) -> None:
    """Hides the axes of a grid that show nothing; the lowest shown ones of each column name what they share.

    Args:
        axes: a two-dimensional array, drawn.
        n_used: axes with content, row by row.
    """
    columns = axes.shape[1]
    for place, ax in enumerate(axes.flat):
        ax.set_visible(place < n_used)
        is_lowest = place + columns >= n_used
        ax.tick_params(labelbottom=is_lowest)
        if not is_lowest:
            ax.set_xlabel("")


def save(figure: "Figure", name: str, caption: str, numbers: "pd.DataFrame", folder: Path | None) -> Drawing:
    """Writes a figure and its numbers; called inside `drawing`.

    Args:
        figure: to write.
        name: of the files.
        caption: what it shows.
        numbers: what is drawn.
        folder: where to, or None to keep it in memory alone.

    Returns:
        The figure for the report.
    """
    figure.draw_without_rendering()  # the layout, once: it costs as much as writing a format
    figure.set_layout_engine("none")
    svg = _render(figure, "svg", {"Date": None, "Creator": None})
    if folder is not None:
        write_atomic(folder / f"{name}.svg", svg)
        write_atomic(folder / f"{name}.pdf", _render(figure, "pdf", {"CreationDate": None, "Creator": None}))
        write_atomic(folder / f"{name}.png", _render(figure, "png", {"Software": None}))
        write_atomic(folder / f"{name}.csv", numbers.to_csv(index=False, lineterminator="\n").encode())
    return Drawing(name, caption, svg.decode(), numbers)


def file_name(*parts: str) -> str:
    """A name that every file system takes.

    Args:
        *parts: of the name; empty ones are left out.

    Returns:
        Letters, digits and ._=+- alone; where another letter was replaced, a hash of all tells such names apart.
    """
    text = "_".join(part for part in parts if part)
    plain = "".join(letter if letter.isalnum() or letter in "._=+-" else "-" for letter in text)
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _render(figure: "Figure", kind: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
