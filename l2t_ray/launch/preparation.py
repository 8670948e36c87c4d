"""What a launch would do: its plan on the devices at hand or on others, and the files that it would fetch first."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.config import Run, weights_files
from l2t_ray.launch.backlog import State
from l2t_ray.launch.options import INLINE, RAY, SLURM
from l2t_ray.launch.placement.devices import local_fleet, parse_fleet
from l2t_ray.launch.placement.plan import Plan
from l2t_ray.launch.sources import source_times, with_sources_first
from l2t_ray.published import ARCHIVES, Published, images_at, weights_at
from l2t_ray.run import AnyRun
from l2t_ray.sweepfile.source_file import read_pretraining

if TYPE_CHECKING:
    from l2t_ray.sweepfile.read import Sweep


QUEUED = "Slurm"  # the fleet of a plan whose devices nobody knows before jobs begin


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


def plan_launch(state: State, *, fleet: str | None = None, backend: str = RAY) -> tuple[Plan, dict[str, float | None]]:
    """Returns what a launch would do, its missing source networks first.

    Args:
        state: of the sweep.
        fleet: devices such as `h200:8`; this machine's if None.
        backend: what trains. Without a fleet, a plan of Slurm's jobs has no time and no price.

    Returns:
        The plan, and `source_times`.
    """
    groups = parse_fleet(fleet) if fleet else local_fleet()
    is_queued = backend == SLURM and fleet is None
    lanes = state.lanes(groups, estimates=fleet is not None, alone=is_queued or backend == INLINE)
    plan, times = state.plan(lanes), source_times(state.sweep, groups)
    if is_queued:
        return replace(plan, fleet=QUEUED, shares={}, bases={}, wall_s=None, device_hours=None, price=None), times
    return with_sources_first(plan, times.values(), groups, state.sweep.execution.price_per_hour), times
