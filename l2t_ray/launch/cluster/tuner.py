"""Runs one Tuner on the running Ray: it takes packs from the queue, and their results go to the ledger."""

import functools
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from l2t_ray.launch.cluster.connection import keep_keys
from l2t_ray.launch.live.progress import Progress
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import threads_tag
from l2t_ray.launch.worker.job import Work
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.recorder import Recorder
from l2t_ray.run import AnyRun

if TYPE_CHECKING:
    from l2t_ray.ledger.spool import Ended

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launched:
    """What a launch did."""

    n_left: int  # runs that have not ended, because the launch was interrupted
    n_spooled: int  # results that the ledger does not have yet
    wall_s: float
    predicted_s: float | None = None  # seconds planned for the runs that have ended; None if the plan did not know
    spent_s: float = 0.0  # seconds of training, all workers added up
    usage: dict[str, Any] | None = None  # of every device over time
    n_stopped: int = 0  # runs that were not trained, because others of their cell raised the same error


class Feed(Protocol):
    """Gives a launch its runs while it lasts: `search.trials.Trials`."""

    @property
    def cells(self) -> Mapping[str, str]:
        """Key to cell of all runs handed out so far."""

    @property
    def studies(self) -> Mapping[str, str]:
        """Key to study, likewise."""

    @property
    def n_further(self) -> int:
        """Runs that may still be handed out."""

    def next_runs(self, n: int) -> list[AnyRun]:
        """At most n runs to train now; none while others wait for results, and at the end."""

    def ended(self, run: AnyRun, ended: "Ended") -> None:
        """Takes a result that has been written to the spool."""


def launch(
    runs: Sequence[AnyRun],
    cells: Mapping[str, str],
    *,
    data_sha: Callable[[AnyRun], str],
    ledger: Ledger,
    work: Work,
    lanes: Lanes,
    retries: int,
    hang_s: float,
    progress: Progress,
    storage: Path,
    feed: Feed | None = None,
    fail_fast: bool = True,
) -> Launched:
    """Trains runs on the running Ray until all have ended or a signal comes.

    Args:
        runs: to train.
        cells: key to cell.
        data_sha: the digest of a run's images.
        ledger: opened for writing.
        work: how packs are trained.
        lanes: each shape's share of each kind of device.
        retries: further attempts for a run that raised.
        hang_s: the least time that an epoch may take before its process counts as hung.
        progress: shows the launch; it knows no run yet.
        storage: a folder for Tune, emptied afterwards.
        feed: gives the runs while the launch lasts; `runs` are then examples of their shapes.
        fail_fast: whether two runs with the same error stop their cell; a search goes on.

    Returns:
        Counts, times and device usage.
    """
    from ray import tune

    from l2t_ray.launch.cluster.callback import Events, NodeLostError
    from l2t_ray.launch.cluster.nodes import on_other_nodes
    from l2t_ray.launch.cluster.queue import Pack, Queue
    from l2t_ray.launch.cluster.stops import Stops
    from l2t_ray.launch.cluster.trainable import PackTrainable
    from l2t_ray.launch.cluster.usage import Usage
    from l2t_ray.ledger.spool import Ended
    from l2t_ray.training import checkpoint

    keep_keys()
    begun = time.monotonic()
    shape_of = lanes.shape_of
    known = [] if feed else [run.key for run in runs]
    order = {shape: place for place, shape in enumerate(lanes.longest_first())}
    for key in sorted(known, key=lambda key: order[shape_of[key]]):
        progress.expect(key, shape_of[key])
    promised = {(name, group): lanes.run_s(name, group)[0] for name in lanes.example for group in lanes.groups}
    n_slots = max(sum(lanes.share(name, group).slots for group in lanes.groups) for name in lanes.example)
    n_ahead = max(lanes.share(name, group).pack for group in lanes.groups for name in lanes.example) * 2 * n_slots
    unfinished = set(known)
    spent_s, predicted_s, n_stopped = 0.0, [0.0], 0
    # by default a searcher has one pending trial; with more, Tune keeps processes for the next packs
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(2 * n_slots)
    logging.getLogger("ray.tune").setLevel(
        logging.CRITICAL
    )  # it would count failed trials at the end; each was reported already
    storage.mkdir(parents=True, exist_ok=True)
    usage = Usage()

    with (
        progress,
        Recorder(ledger, lambda key: checkpoint.remove_state(work.checkpoint(key))) as recorder,
        on_other_nodes() as others,
    ):

        def on_end(run: AnyRun, ended: Ended, pack: Pack, device: str) -> None:
            nonlocal spent_s
            tags = {"shape": pack.shape, "device": device or pack.share.device}
            tags |= {"pack": str(len(pack.runs)), "processes": str(pack.share.processes)}
            tags |= threads_tag(tags["device"], pack.share.threads)
            recorder.add(run, ended, (feed.cells if feed else cells)[run.key], data_sha(run), tags)
            progress.ended(run.key, ended.status, ended.reason, ended.wall_s, ended.metrics)
            unfinished.discard(run.key)
            if ended.status == "finished":
                spent_s += ended.wall_s
                found_s = promised.get((pack.shape, pack.group))
                predicted_s.append(math.nan if found_s is None else found_s)
            if feed:
                feed.ended(run, ended)

        def more(n: int) -> list[AnyRun]:
            found = feed.next_runs(n) if feed else []
            for run in found:
                progress.expect(run.key, lanes.add(run), feed.studies[run.key] if feed else None)
                unfinished.add(run.key)
            progress.n_further = feed.n_further if feed else 0
            return found

        def on_stop(cell: str, reason: str) -> None:
            progress.tell(
                f"{cell} is stopped: two of its runs raised the same error, {reason}. Its other runs are not trained; "
                "correct that and launch with --retry-failed, or set execution.fail_fast=false"
            )

        def on_drop(run: AnyRun) -> None:
            nonlocal n_stopped
            n_stopped += 1
            progress.drop(run.key)
            unfinished.discard(run.key)

        queue = Queue(
            [] if feed else runs,
            lanes,
            work,
            retries=retries,
            on_end=on_end,
            more=more,
            n_ahead=n_ahead if feed else 0,
            stops=Stops(cells, on_stop if fail_fast and feed is None else None),
            on_drop=on_drop,
        )
        tuner = tune.Tuner(
            tune.with_resources(PackTrainable, _resources),
            tune_config=tune.TuneConfig(
                search_alg=queue,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
            ),
            run_config=tune.RunConfig(
                name=f"launch-{os.getpid()}",
                storage_path=str(storage),
                callbacks=[
                    Events(
                        queue,
                        progress,
                        recorder,
                        usage=usage,
                        epoch_s=lambda pack: lanes.epoch_s(pack.shape, pack.group),
                        hang_s=hang_s,
                    )
                ],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the workers write their own
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:  # a second Ctrl-C
            pass
        except NodeLostError:
            logger.error("Ray on this machine was ended by another process; launch again to train what is not finished")
        finally:
            shutil.rmtree(storage, ignore_errors=True)
        busy = usage.to_json()
        busy["devices"] |= others()
    total_s = sum(predicted_s)
    return Launched(
        n_left=len(unfinished) + (feed.n_further if feed else 0),
        n_spooled=recorder.n_left,
        wall_s=time.monotonic() - begun,
        predicted_s=None if math.isnan(total_s) else total_s,
        spent_s=spent_s,
        usage=busy,
        n_stopped=n_stopped,
    )


def _resources(config: Mapping[str, Any]) -> Any:
    share = config["share"]
    bundle = {"CPU": share["cpus"], "GPU": share["gpus"], **dict(share["marks"])}
    return _bundle(tuple((name, amount) for name, amount in bundle.items() if amount))


@functools.cache
def _bundle(amounts: tuple[tuple[str, float], ...]) -> Any:
    """One object for all trials of a share, because Tune keeps every trial's object."""
    from ray import tune

    return tune.PlacementGroupFactory([dict(amounts)])


def _trial_id(trial: Any) -> str:
    return str(trial.trial_id)
