"""What comes before the first run of a plan: files to fetch, and source networks to train in its time and price."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.config import Run, weights_files
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.estimate import estimate_source
from l2t_ray.launch.placement.plan import Plan
from l2t_ray.published import ARCHIVES, Published, images_at, weights_at
from l2t_ray.run import AnyRun
from l2t_ray.sweepfile.source_file import read_pretraining
from l2t_ray.training.source_settings import Pretraining

if TYPE_CHECKING:
    from l2t_ray.sweepfile.read import Sweep


@dataclass(frozen=True)
class Fetched:
    """A file that a launch fetches first."""

    what: str
    n_bytes: int
    address: str = ""  # empty for torchvision's own


def to_fetch(sweep: "Sweep", runs: Iterable[AnyRun]) -> list[Fetched]:
    """Returns what a launch of these runs, and of the sources before them, has to fetch."""
    ours, data_dir = [run for run in runs if isinstance(run, Run)], Path(sweep.execution.data_dir)
    settings = [read_pretraining(file, data_dir=data_dir) for file in sweep.sources.values()]
    names = dict.fromkeys([run.data.name for run in ours] + [source.data.name for source in settings])
    found = [Fetched(name, ARCHIVES[name][2]) for name in names if name in ARCHIVES and not _is_there(name, data_dir)]
    items: list[Published | None] = [images_at(source.data.name, source.data.path) for source in settings]
    items += [
        weights_at(path)
        for path in dict.fromkeys(path for run in ours for path in weights_files(run))
        if not Path(path).is_file()
    ]
    return [*found, *(Fetched(item.what, item.n_bytes, item.address) for item in dict.fromkeys(items) if item)]


def _is_there(name: str, data_dir: Path) -> bool:
    folder, archive, _ = ARCHIVES[name]
    decoded = any(file.suffix != ".lock" for file in (data_dir / ".cache").glob(f"{name}.v*"))
    return decoded or (data_dir / folder).is_dir() or (data_dir / archive).is_file()


def source_times(sweep: "Sweep", groups: Sequence[Group]) -> dict[str, float | None]:
    """Returns the estimated seconds of training each missing source network; None where nothing is known."""
    data_dir = Path(sweep.execution.data_dir)
    found: dict[str, Pretraining] = {w: read_pretraining(file, data_dir=data_dir) for w, file in sweep.sources.items()}
    return {weights: estimate_source(settings, groups[0]) for weights, settings in found.items()}


def with_sources_first(
    plan: Plan, times: Iterable[float | None], groups: Sequence[Group], price_per_hour: float | None
) -> Plan:
    """Returns the plan with the trainings of its sources in its time, device-hours and price.

    Args:
        plan: of the runs.
        times: of the sources, which train side by side where there are cards.
        groups: the devices.
        price_per_hour: of all devices together.
    """
    known = [seconds for seconds in times if seconds is not None]
    if not known or plan.wall_s is None:
        return plan
    n_cards = groups[0].n_devices if groups[0].is_gpu else 1
    wall_s = plan.wall_s + max(*known, sum(known) / n_cards)
    hours = wall_s / 3600
    return replace(
        plan,
        wall_s=wall_s,
        device_hours=hours * sum(group.n_devices for group in groups),
        price=None if price_per_hour is None else hours * price_per_hour,
    )
