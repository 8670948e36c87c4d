"""How every figure looks and is written: readable in grey and by the colour-blind, the same bytes every time.

A method keeps its colour (Okabe and Ito 2008), marker and line style in all figures. Each figure is written as SVG, PDF
and PNG, with its numbers as CSV beside it.
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l2t_ray.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DPI = 160
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


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    color: str
    marker: str
    line: str


LOOKS = {
    "scratch": Look("#000000", "o", ":"),
    "ufm": Look("#56B4E9", "s", "-."),
    "l2t_ww": Look("#E69F00", "^", "--"),
    "l2t_www": Look("#0072B2", "D", "-"),
}
FURTHER = (
    Look("#009E73", "v", (0, (5, 1, 1, 1, 1, 1))),  # type: ignore[arg-type]  # matplotlib's dashes
    Look("#D55E00", "P", "-."),
    Look("#CC79A7", "X", "--"),
    Look("#999999", "*", ":"),
)


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for every name.

    Args:
        names: methods, perhaps with a variant after a blank.

    Returns:
        The thesis' methods always look the same; others take the next free look.
    """
    found: dict[str, Look] = {}
    n_further = 0
    for name in names:
        if name in LOOKS:
            found[name] = LOOKS[name]
        else:
            found[name] = FURTHER[n_further % len(FURTHER)]
            n_further += 1
    return found


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
        Letters, digits and ._=+- alone.
    """
    text = "_".join(part for part in parts if part)
    return "".join(letter if letter.isalnum() or letter in "._=+-" else "-" for letter in text)


def _render(figure: "Figure", kind: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
