"""The style of every figure, and its files: readable in grey and by the colour-blind, the same bytes every time.

A method keeps its colour (Okabe and Ito 2008, then Tol's muted ones), marker and line style in all figures. Each figure
is written as SVG, and as PDF and PNG where they are asked for, with its numbers as CSV beside it.
"""

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from l2t_ray.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 160
FORMATS: dict[str, tuple[str, ...]] = {  # of a figure, with what would tell the time and the program: left out
    "svg": ("Date", "Creator"),
    "pdf": ("CreationDate", "Creator"),
    "png": ("Software",),
}
_formats: ContextVar[tuple[str, ...]] = ContextVar("formats", default=("svg",))
MOST_POINTS = 100  # of a line
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


Marker = str | tuple[int, int]  # a tuple is a star: (number of points, 1)
Line = str | tuple[float, tuple[float, ...]]  # a tuple is a dash pattern: (offset, lengths)


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    color: str
    marker: Marker
    line: Line

    @property
    def stroke(self) -> dict[str, Any]:
        """The look as arguments of matplotlib's `plot` and `errorbar`."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.line}


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
    "linear_probe": Look("#88CCEE", (3, 1), "-"),
    "surgical": Look("#44AA99", (7, 1), "--"),
    "l2_sp": Look("#117733", "H", "-."),
    "bss": Look("#DDCC77", (6, 1), ":"),
    "stochnorm": Look("#CC6677", (8, 1), TWICE),
    "co_tuning": Look("#AA4499", (10, 1), "-"),
    "delta": Look("#661100", (12, 1), "--"),
    "lora": Look("#6699CC", (9, 1), "-."),
}
STYLES = tuple(LOOKS.values())
# for users' methods and for variants: markers, and pairs of colour and line, that no built-in method has
MARKERS: tuple[Marker, ...] = ("h", "d", "8", (4, 1))
LINES: tuple[Line, ...] = ("-", "--", "-.", ":", TWICE)
USED = {(style.color, style.line) for style in STYLES}
STROKES = [(style.color, line) for style, line in product(STYLES, LINES) if (style.color, line) not in USED]
STEP = 7  # shares no divisor with len(STROKES), so that steps reach all of them


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Returns a look for every name, as far as possible the same whatever else is drawn.

    Built-in methods have a look of their own. Another name (a user's method, or `method/variant`) gets one by its hash;
    where a name before it in the alphabet has that colour and line, it takes the next. After `len(STROKES)` names the
    looks repeat.
    """
    names = [*names]
    by_name = dict(LOOKS)
    taken: set[int] = set()
    for name in sorted({*names} - LOOKS.keys()):
        digest = hashlib.sha256(name.encode()).digest()
        place = int.from_bytes(digest[:4], "big") % len(STROKES)
        while place in taken and len(taken) < len(STROKES):
            place = (place + STEP) % len(STROKES)
        taken.add(place)
        color, line = STROKES[place]
        by_name[name] = Look(color, MARKERS[digest[4] % len(MARKERS)], line)
    return {name: by_name[name] for name in names}


@dataclass(frozen=True)
class Drawing:
    """A finished figure."""

    name: str  # of its files
    caption: str  # what it shows, with n and the meaning of the bands
    svg: str  # the figure as text, for the page; empty where it cannot be drawn, which the caption then says
    numbers: pd.DataFrame  # what is drawn
    kinds: tuple[str, ...] = ("svg",)  # of its files

    def _repr_svg_(self) -> str:
        """What a notebook shows."""
        return self.svg

    @property
    def files(self) -> list[str]:
        """The names of its files."""
        if not self.svg:
            return []
        return [f"{self.name}.{kind}" for kind in (*self.kinds, "csv")]


@contextmanager
def writing(formats: Iterable[str]) -> Iterator[None]:
    """Within, every figure is written in these formats; SVG, which the page needs, is always one of them."""
    token = _formats.set(tuple(kind for kind in FORMATS if kind == "svg" or kind in {*formats}))
    try:
        yield
    finally:
        _formats.reset(token)


@contextmanager
def drawing(
    columns: int = 1, rows: int = 1, *, width: float = 5.6, height: float = 3.7, **layout: Any
) -> Iterator[Any]:
    """Yields a figure in the house style and its axes as a two-dimensional array; width and height are in inches."""
    mpl = _matplotlib()
    from matplotlib.figure import Figure

    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(width, height))
        yield figure, figure.subplots(rows, columns, squeeze=False, **layout)


def _matplotlib() -> Any:
    """Imports matplotlib without a backend, which may be a notebook's, and without a word on a closed home folder."""
    backend = os.environ.pop("MPLBACKEND", None)  # read at the import
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib as mpl
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return mpl


def drawn(name: str, draw: Callable[..., Drawing | None], *values: Any, **options: Any) -> list[Drawing]:
    """Draws a figure, if there is one; where matplotlib cannot (numbers near the largest), its place says so."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            figure = draw(*values, **options)
    except (ArithmeticError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        return [Drawing(name, f"figure {name} cannot be drawn: {first or type(error).__name__}", "", pd.DataFrame())]
    return [figure] if figure else []


def label_epochs(ax: Any) -> None:
    """Labels the horizontal axis `epoch` and puts its ticks at whole epochs."""
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def hide_rest(axes: Any, n_used: int) -> None:
    """Hides the axes after the first `n_used`; the lowest used ones of each column name the axis that they share."""
    columns = axes.shape[1]
    for place, ax in enumerate(axes.flat):
        ax.set_visible(place < n_used)
        is_lowest = place + columns >= n_used
        ax.tick_params(labelbottom=is_lowest)
        if not is_lowest:
            ax.set_xlabel("")


def save(figure: "Figure", name: str, caption: str, numbers: pd.DataFrame, folder: Path | None) -> Drawing:
    """Writes a figure and its numbers (with `folder` None, nothing); only inside `drawing`, which sets the style."""
    _keep_dollars(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)  # compute the layout once: it costs as much as writing a format
    figure.set_layout_engine("none")
    svg, formats = _render(figure, "svg"), _formats.get()
    if folder is not None:
        for kind in formats:
            write_atomic(folder / f"{name}.{kind}", svg if kind == "svg" else _render(figure, kind))
        write_atomic(folder / f"{name}.csv", numbers.to_csv(index=False, lineterminator="\n").encode())
    return Drawing(name, caption, svg.decode(), numbers, formats)


def evenly(length: int, most: int) -> list[int]:
    """At most `most` indices below `length`, evenly spread from the first to the last."""
    return [int(place) for place in dict.fromkeys(np.linspace(0, length - 1, min(length, most)).round())]


def thinned(values: pd.DataFrame) -> pd.DataFrame:
    """At most `MOST_POINTS` rows, evenly spread from the first to the last: a trace keeps its start and its end."""
    return values.iloc[evenly(len(values), MOST_POINTS)]


def file_name(*parts: str) -> str:
    """Joins parts to a file name of letters, digits and ._=+-; where it had to replace others, a hash is added."""
    text = "_".join(part for part in parts if part)
    plain = "".join(letter if letter.isalnum() or letter in "._=+-" else "-" for letter in text)
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _keep_dollars(figure: "Figure") -> None:
    """Draws dollars in names as they are, where matplotlib would read a formula; logarithmic ticks are formulas."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if isinstance(text, Text) and not text.get_text().startswith(r"$\mathdefault{"):
            text.set_parse_math("$" not in text.get_text())


def _render(figure: "Figure", kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=dict.fromkeys(FORMATS[kind]))
    return buffer.getvalue()
