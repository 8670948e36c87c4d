"""Trains a sweep as an array of Slurm jobs; every job spools its results, and this process writes them to the ledger.

submitit writes the script for sbatch, and requeues a job that has reached its time limit or was preempted. The
working folder must be on a file system that the compute nodes share.
"""

import heapq
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l2t_ray.config import Execution
from l2t_ray.errors import LedgerUnavailableError, count
from l2t_ray.files import HOME
from l2t_ray.launch.inline import Trainer, packs, spooled, stopped_by_signals, stopped_text, threads
from l2t_ray.launch.live.tally import Launched, Tally
from l2t_ray.launch.options import Request
from l2t_ray.launch.placement.eta import Lane
from l2t_ray.launch.slurm_jobs import Jobs
from l2t_ray.launch.worker.job import Work, decode, encode
from l2t_ray.run import AnyRun
from l2t_ray.training.checkpoint import remove_state

if TYPE_CHECKING:
    from l2t_ray.launch.placement.allocation import Lanes
    from l2t_ray.launch.placement.plan import Plan

LOOK_S = 2.0  # between looks at the spool
LATE_S = 30.0  # in which a shared file system shows what an ended job has written
SHOWN_LOGS = 3
DROPPED = "dropped"  # in the file of a run that is not trained, because its cell is stopped


@dataclass(frozen=True)
class Part:
    """The runs of one job of the array; submitit calls it on the compute node.

    With several tasks a job, each task trains every so many-th pack.
    """

    sweep: str
    work: str  # of `Work.to_json`
    runs: str  # of `job.encode`
    cells: Mapping[str, str]  # key to cell
    digests: Mapping[str, str]  # key to the digest of the run's images
    execution: str  # as JSON
    spool: str  # the folder of results

    def __call__(self) -> int:
        """Trains what has not ended yet; returns how many runs have ended in this session."""
        import submitit

        from l2t_ray import registry
        from l2t_ray.launch.cluster.stops import Stops
        from l2t_ray.ledger.spool import Spool

        environment = submitit.JobEnvironment()
        execution, work = Execution.model_validate_json(self.execution), Work.from_json(self.work)
        work = replace(work, threads=threads(execution.threads))
        registry.load([Path(path) for path in work.methods])
        runs = decode(self.runs)
        spool, ended = Spool(Path(self.spool)), ended_folder(Path(self.spool))
        sizes = _pack_sizes(runs, self.cells, execution, work, environment.num_tasks)
        mine = [*packs(runs, lambda run: sizes[run.key])][environment.global_rank :: environment.num_tasks]
        stops = Stops(self.cells, (lambda *told: print(stopped_text(*told))) if execution.fail_fast else None)
        trainer, n_ended = Trainer(work, stops), 0
        for pack in mine:
            left = [run for run in pack if not (ended / run.key).exists()]
            for record in spooled(trainer, left, spool, self.sweep, self.cells, self.digests):
                (ended / record.key).touch()  # the spool's file may be in the ledger already when a job begins again
                n_ended += 1
                print(f"{record.name}: {record.outcome}", flush=True)
        for run in (run for pack in mine for run in pack if run.key in stops):
            if not (ended / run.key).exists():
                (ended / run.key).write_text(DROPPED)
        return n_ended

    def checkpoint(self) -> Any:
        """What submitit submits again when the job's time is over; training goes on from its checkpoints."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def train(request: Request) -> "tuple[Launched, Plan]":
    """Submits the launch's runs, and collects results until no job is left.

    Jobs of an earlier launch that still wait or run are collected, not submitted again.

    Returns:
        What the launch did, and its plan without times: Slurm alone knows when jobs begin.

    Raises:
        InputError: if jobs cannot be submitted.
    """
    with stopped_by_signals("interrupted: the jobs go on") as is_stopped:
        return _train(request, is_stopped)


def _train(request: Request, is_stopped: Callable[[], bool]) -> "tuple[Launched, Plan]":

    state, lanes, execution = request.state, request.lanes, request.state.sweep.execution
    ledger = state.ledger
    ended = ended_folder(ledger.spool.folder.resolve())
    jobs = Jobs(ended.parent)
    progress = request.progress(lambda shape: [Lane("Slurm", max(1, len(jobs)), 1, None)])
    tally = Tally(state.runs, lanes, progress)
    left = tally.left
    in_flight = {key for keys in jobs.alive().values() for key in keys}
    to_submit = [run for run in state.runs if run.key not in in_flight]
    if in_flight & left:
        request.say(f"{count(len(in_flight & left), 'run')} of an earlier launch are in {jobs}")
    if to_submit:
        ended.mkdir(parents=True, exist_ok=True)
        for run in to_submit:
            (ended / run.key).unlink(missing_ok=True)
        shared = split(to_submit, _costs(to_submit, lanes), execution.slurm_jobs)
        parts = {tuple(run.key for run in runs): _part(request, runs) for runs in shared}
        jobs.submit(parts, execution.slurm, state.sweep.name)
        request.say(f"{count(len(to_submit), 'run')} submitted; {jobs}; logs in {ended.parent}")
    request.on_ready()
    n_spooled, over_at = 0, math.inf
    with progress:
        while left and not is_stopped() and time.monotonic() < over_at + LATE_S:
            over_at = min(over_at, time.monotonic()) if not jobs.alive() else math.inf
            records = [*ledger.spool.records()]  # what a job adds meanwhile is neither counted nor written yet
            for record in records:
                if record.key in left:
                    reason = record.tags["reason"]
                    tally.ended(record.key, record.outcome, reason, record.wall_s, record.metrics)
            progress.n_elsewhere = len(left) if left and over_at == math.inf else 0
            progress.tick()
            try:
                n_spooled = ledger.flush(lambda key: remove_state(request.work.checkpoint(key)), records)
            except LedgerUnavailableError as error:
                if not n_spooled:
                    progress.tell(f"{error}; results wait in {ledger.spool.folder}")
                n_spooled = len(ledger.spool)
            stopped = {key for key in left if is_dropped(ended / key)}
            if over_at < math.inf and left == stopped:
                break
            time.sleep(LOOK_S if left else 0.0)
        for key in [key for key in left if is_dropped(ended / key)]:
            tally.drop(key)
    if left and is_stopped():
        request.say(f"launch again to collect the jobs' results, or end them: {jobs.cancel_command}")
    elif left:
        logs = ", ".join(map(str, jobs.logs(left)[:SHOWN_LOGS])) or ended.parent
        request.say(f"without a result although no job is left: {count(len(left), 'run')}; see {logs}")
    plan = replace(state.plan(lanes), fleet=f"Slurm, {count(len(jobs), 'job')}", shares={}, bases={}, wall_s=None)
    return tally.launched(n_spooled), plan


def split(runs: Sequence[AnyRun], costs: Mapping[str, float], n_most: int) -> list[list[AnyRun]]:
    """Distributes runs over jobs of about equal time: the longest run first, each to the job with least to do.

    Args:
        runs: to train.
        costs: key to time, in any unit.
        n_most: jobs.

    Returns:
        The runs of each job, in the file's order.
    """
    jobs: list[tuple[float, int, list[int]]] = [(0.0, place, []) for place in range(min(n_most, len(runs)))]
    for place in sorted(range(len(runs)), key=lambda place: -costs[runs[place].key]):  # stable
        total, job, mine = heapq.heappop(jobs)
        heapq.heappush(jobs, (total + costs[runs[place].key], job, [*mine, place]))
    return [[runs[place] for place in sorted(mine)] for _, _, mine in sorted(jobs, key=lambda job: job[1])]


def _costs(runs: Sequence[AnyRun], lanes: "Lanes") -> dict[str, float]:
    """Seconds of every run; epochs where those of any are unknown."""
    seconds = {run.key: lanes.run_s(lanes.shape_of[run.key], lanes.groups[0])[0] for run in runs}
    known = {key: value for key, value in seconds.items() if value is not None}
    return known if len(known) == len(seconds) else {run.key: float(run.epochs) for run in runs}


def _part(request: Request, runs: Sequence[AnyRun]) -> Part:
    sweep = request.state.sweep
    return Part(
        sweep.name,
        replace(request.work, mps="").to_json(),
        encode(runs),
        {run.key: sweep.cells[run.key] for run in runs},
        {run.key: request.data_sha(run) for run in runs},
        sweep.execution.model_dump_json(),
        str(request.state.ledger.spool.folder.resolve()),
    )


def _pack_sizes(
    runs: Sequence[AnyRun], cells: Mapping[str, str], execution: Execution, work: Work, n_tasks: int
) -> dict[str, int]:
    """K of every run on this node, by the file's number or by what is known of its device."""
    from l2t_ray.launch.placement.allocation import Lanes
    from l2t_ray.launch.placement.devices import local_fleet
    from l2t_ray.launch.placement.measurements import Figures

    shared = execution.model_copy(update={"gpu_share": 1 / n_tasks})
    figures = Figures(HOME / "probe.json", [Path(path) for path in work.methods], served=False)
    lanes = Lanes(shared, local_fleet(), figures, runs, cells, known={})
    return {run.key: lanes.share(lanes.shape_of[run.key], lanes.groups[0]).pack for run in runs}


def is_dropped(marker: Path) -> bool:
    """Whether a run was left out because its cell is stopped."""
    return marker.is_file() and marker.read_text() == DROPPED


def ended_folder(spool: Path) -> Path:
    """The folder with an empty file for every run that has ended in a job of this sweep."""
    return spool.parent / "slurm" / "ended"
