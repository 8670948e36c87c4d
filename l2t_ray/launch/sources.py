"""Source networks that a sweep lacks: whether a backend trains them, how long it takes, and their training."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.errors import InputError, duration, say
from l2t_ray.launch.backlog import State
from l2t_ray.launch.options import RAY, Options
from l2t_ray.launch.placement.devices import Group, local_fleet
from l2t_ray.launch.placement.estimate import estimate_source
from l2t_ray.launch.placement.plan import Plan
from l2t_ray.sweepfile.source_file import fetch_images, read_pretraining
from l2t_ray.training.source_settings import Pretraining

if TYPE_CHECKING:
    from l2t_ray.ledger.ledger import Ledger
    from l2t_ray.sweepfile.read import Sweep


def check_backend(sweep: "Sweep", backend: str) -> None:
    """Refuses a backend that cannot train the sources that a sweep lacks: before the minutes of checks.

    Raises:
        InputError: with a line for every file of weights.
    """
    if sweep.sources and backend != RAY:
        raise InputError(
            f"{weights}: must exist with --backend {backend}; python -m l2t_ray.pretrain {file} trains it"
            for weights, file in sweep.sources.items()
        )


def check_with_sources(state: State, options: Options) -> None:
    """Checks everything but the source networks that are trained first, which may take hours.

    Raises:
        InputError: with a line for every problem, also of the images that a source learns from.
    """
    from l2t_ray.data.load import load_data
    from l2t_ray.launch.session import check

    sweep, problems = state.sweep, list[str]()
    data_dir, download = Path(sweep.execution.data_dir), sweep.execution.download and options.download

    def look_at_source(file: Path) -> None:
        fetch_images(file, read_pretraining(file, data_dir=data_dir), download=download)
        try:
            load_data(read_pretraining(file, data_dir=data_dir).data, data_dir, download=download)
        except InputError as error:
            raise InputError(f"{file}: {problem}" for problem in error.problems) from error

    looks: list[Callable[[], object]] = [
        lambda: check(state, state.lanes(local_fleet()), options, later=sweep.sources),
        *(partial(look_at_source, file) for file in sweep.sources.values()),
    ]
    for look in looks:
        try:
            look()
        except InputError as error:
            problems.extend(told for told in error.problems if told not in problems)
    if problems:
        raise InputError(problems)


def train_first(sweep: "Sweep", ledger: "Ledger", options: Options, read: Callable[[], "Sweep"]) -> "Sweep":
    """Trains the source networks that a sweep lacks; only then are its runs' keys known.

    Args:
        sweep: as read.
        ledger: of the sweep.
        options: of the command line.
        read: reads the sweep again.

    Returns:
        The sweep, read again.

    Raises:
        InputError: if trained weights were removed meanwhile.
    """
    from l2t_ray.launch.cluster.sources import train_sources
    from l2t_ray.launch.session import interrupt

    download = sweep.execution.download and options.download
    for file in sweep.sources.values():
        settings = read_pretraining(file, data_dir=Path(sweep.execution.data_dir))
        fetch_images(file, settings, download=download)
    with ledger.writing(on_lost=interrupt):
        for weights, file in sweep.sources.items():
            say(f"{sweep.name}: {weights} is not there, so {file} trains it first")
        train_sources(sweep.sources, sweep.execution, ledger, say, address=options.address, download=download)
    again = read()
    for weights, file in again.sources.items():  # removed meanwhile: no key that is provisional may be trained
        raise InputError(f"{weights}: must be there once {file} has trained it; launch again")
    return again


def source_times(sweep: "Sweep", groups: Sequence[Group]) -> dict[str, float | None]:
    """Returns the estimated seconds of training each missing source network; None where nothing is known."""
    data_dir = Path(sweep.execution.data_dir)
    found: dict[str, Pretraining] = {w: read_pretraining(file, data_dir=data_dir) for w, file in sweep.sources.items()}
    return {weights: estimate_source(settings, groups[0]) for weights, settings in found.items()}


def source_lines(sweep: "Sweep", times: dict[str, float | None]) -> list[str]:
    """Returns a line for each missing source network: what trains it first, and in which of `source_times`."""
    return [
        f"{sweep.name}: {weights} is not there: {file} trains it first, in "
        f"{'an unknown time' if (seconds := times[weights]) is None else f'about {duration(seconds)}, ESTIMATED'}; "
        "then keys are known"
        for weights, file in sweep.sources.items()
    ]


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
