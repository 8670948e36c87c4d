"""The state of a launch as a page that reads itself again every few seconds, and stays when the launch has ended."""

import time
from pathlib import Path

from l2t_ray.errors import count, duration
from l2t_ray.files import write_atomic
from l2t_ray.launch.live.table import GIB, cell_texts, columns, pack_text
from l2t_ray.launch.live.view import View
from l2t_ray.style import style_sheet

REFRESH_S = 5
STALE_S = 30  # without news the page says so
DEVICE_COLUMNS = [("device", True), ("busy %", False), ("GiB in use", False), ("GiB", False)]
PACK_COLUMNS = [("device", True), ("cell", True), ("state", True)]


def write_page(view: View, file: Path) -> None:
    """Writes the page.

    Raises:
        OSError: if the file cannot be written.
    """
    write_atomic(file, page(view).encode())


def page(view: View) -> str:
    """Returns the page: it needs no server and no network, and its script only tells how old it is."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    devices = [
        (d.name, f"{d.percent:.0f}", f"{d.used_bytes / GIB:.1f}", f"{d.total_bytes / GIB:.1f}" if d.total_bytes else "")
        for d in view.devices
    ]
    packs = [(pack.device, pack.cell, pack_text(pack)) for pack in view.packs]
    n_finished, n_wanted = sum(row.n_finished for row in view.cells), sum(row.n_wanted for row in view.cells)
    found: str = environment.get_template("live.html.j2").render(
        view=view,
        css=Markup(style_sheet()),
        tables=[
            (title, columns, rows)  # a column's title, and whether it holds text
            for title, columns, rows in (
                (
                    "Cells",
                    [(name, name == "cell") for name in columns(view.metric)],
                    [cell_texts(row, view.metric) for row in view.cells],
                ),
                ("Devices of the machine that launches", DEVICE_COLUMNS, devices),
                ("Packs in training", PACK_COLUMNS, packs),
            )
            if rows
        ],
        all_runs=f"{n_finished} of {count(n_wanted, 'run')} finished",
        share=100 * n_finished / n_wanted if n_wanted else 100.0,
        elapsed=duration(view.updated_s - view.begun_s),
        began=_clock(view.begun_s),
        updated=_clock(view.updated_s),
        ended=None if view.ended_s is None else _clock(view.ended_s),
        refresh_s=REFRESH_S,
        stale_s=STALE_S,
    )
    return found


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
