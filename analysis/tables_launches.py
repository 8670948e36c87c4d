"""The table of launches: predicted against spent."""

from collections.abc import Sequence

from analysis.launches import Launch
from analysis.tables import NOTHING, Table


def launches_tables(launches: Sequence[Launch]) -> list[Table]:
    """Predicted against spent.

    Args:
        launches: any.

    Returns:
        One table with a row a launch; none without launches.
    """
    if not launches:
        return []
    header = ("Sweep", "Devices", "Launch", "Runs", "Predicted (min)", "Took (min)", "Training predicted (h)")
    rows = []
    for launch in launches:
        busy = [f"{device.name} {device.mean_percent:.0f} %" for device in launch.devices if device.percent]
        rows.append((
            launch.sweep, launch.fleet, str(launch.number), str(launch.n_runs - launch.n_left),
            _number(launch.predicted_wall_s, 60), _number(launch.wall_s, 60), _number(launch.predicted_s, 3600),
            _number(launch.spent_s, 3600), ", ".join(busy) or NOTHING,
        ))  # fmt: skip
    table = Table(
        name="launches",
        title="What the launches took",
        header=(*header, "Training spent (h)", "Busy on average"),
        rows=tuple(rows),
        notes=(
            "Predicted from what was measured or recorded when the launch began; a dash where something was not.",
            "Training is added up over the processes that ran side by side, for runs that finished.",
        ),
        n_text=2,
    )
    return [table]


def _number(seconds: float | None, unit_s: float) -> str:
    return NOTHING if seconds is None else f"{seconds / unit_s:.2f}"
