"""The state of a launch as a table for a terminal: a row a cell, then devices, packs and links."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from l2t_ray.errors import count, duration
from l2t_ray.launch.live.view import CellView, PackView, View
from l2t_ray.run import ACCURACY

if TYPE_CHECKING:
    from rich.console import Group

MOST_PACKS = 4
NUMBERS = 54  # columns of the terminal for all but the cell's name
APART = "    "
HEAD = 2  # lines of the table above its rows
GIB = 2**30
WIDE = 160  # columns off a terminal
PERCENT = "_percent"
COLUMNS = ("cell", "finished", "running", "failed", "mean %", "+/- (95 %)")


def table(view: View, width: int, height: int | None = None) -> "Group":
    """Returns the table.

    Args:
        view: the state.
        width: of the terminal, in columns.
        height: at most so many lines; None for all.

    Returns:
        What rich prints.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    n_packs = MOST_PACKS if height is None else max(0, min(MOST_PACKS, height // 3 - 3))
    below = [*device_lines(view), *pack_lines(view.packs, n_packs), *view.notes]
    links = [f"{what}: {where}" for what, where in view.links.items()]
    below += [APART.join(links)] if links and len(APART.join(links)) < width else links
    above = [f"{view.sweep}: {view.done}", view.rest]
    rows, rest = folded(view.cells, None if height is None else max(1, height - len(above) - HEAD - 1 - len(below)))
    found = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    titles = columns(view.metric)
    for column in titles:
        is_cell = column == "cell"
        most = width - NUMBERS - sum(map(len, titles)) + sum(map(len, COLUMNS)) if is_cell else None
        found.add_column(column, justify="left" if is_cell else "right", no_wrap=True, overflow="crop", max_width=most)
    for row in rows:
        found.add_row(*map(Text, cell_texts(row, view.metric)))
    lines = [*([rest] if rest else []), "", *below]
    texts = [Text(line, no_wrap=True, overflow="crop") for line in (*above, *lines)]
    return Group(*texts[: len(above)], found, *texts[len(above) :])


def print_view(view: View, stream: TextIO) -> None:
    """Prints the table once."""
    from rich.console import Console

    console = Console(file=stream, highlight=False, markup=False)
    console.width = console.width if console.is_terminal else WIDE
    console.print(table(view, console.width))


def columns(metric: str) -> tuple[str, ...]:
    """The titles; the mean's is that of the metric, where it is not the built-in trainer's accuracy."""
    if metric == ACCURACY.name:
        return COLUMNS
    unit = " %" if metric.endswith(PERCENT) else ""
    return (*COLUMNS[:4], f"mean {metric.removesuffix(PERCENT)}{unit}", COLUMNS[5])


def cell_texts(row: CellView, metric: str = ACCURACY.name) -> tuple[str, ...]:
    """A cell's row; zeros are left out."""
    digits = ".2f" if metric.endswith(PERCENT) else ".4g"
    mean = "" if row.mean is None else f"{row.mean:{digits}}"
    half_width = "" if row.half_width is None else f"{row.half_width:{digits}}"
    few = (str(number) if number else "" for number in (row.n_running, row.n_failed))
    return (row.cell, f"{row.n_finished}/{row.n_wanted}", *few, mean, half_width)


def folded(cells: Sequence[CellView], most: int | None) -> tuple[list[CellView], str]:
    """The cells for so many lines: first those with running work, and a line about the others."""
    if most is None or len(cells) <= most:
        return [*cells], ""
    order = sorted(range(len(cells)), key=lambda n: (not cells[n].n_running, not cells[n].n_failed, n))
    shown = sorted(order[: most - 1])
    others = [cell for n, cell in enumerate(cells) if n not in {*shown}]
    n_done, n_wanted = sum(cell.n_finished for cell in others), sum(cell.n_wanted for cell in others)
    return [cells[n] for n in shown], f"and {count(len(others), 'more cell')}: {n_done} of {n_wanted} runs finished"


def device_lines(view: View) -> list[str]:
    """A line about every device: its use and memory."""
    lines = []
    for device in view.devices:
        used, total = f"{device.used_bytes / GIB:.1f}", f" of {device.total_bytes / GIB:.1f}"
        lines.append(f"{device.name}: {device.percent:.0f} % busy, {used}{total if device.total_bytes else ''} GiB")
    return lines


def pack_lines(packs: Sequence[PackView], most: int) -> list[str]:
    """A line about every pack, at most so many."""
    lines = [f"{pack.device}: {pack.cell}, {pack_text(pack)}" for pack in packs[:most]]
    if most and len(packs) > most:
        lines.append(f"and {count(len(packs) - most, 'more pack')}")
    return lines


def pack_text(pack: PackView) -> str:
    """A pack in words: "pack of 4 runs, epoch 12 of 60, 3 s so far, 12 s left"."""
    runs = "1 run" if pack.n_runs == 1 else f"pack of {pack.n_runs} runs"
    epoch = f"epoch {pack.epoch} of {pack.epochs}" if pack.epochs else "no epoch reported yet"
    left = "" if pack.left_s is None else f", {duration(pack.left_s)} left"
    return f"{runs}, {epoch}, {duration(pack.elapsed_s)} so far{left}"
