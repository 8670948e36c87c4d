"""Runs one Tuner on the running Ray: it takes packs from the queue, and their results go to the ledger."""

import functools
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from l2t_ray.config import Execution
from l2t_ray.launch.cluster.connection import keep_keys
from l2t_ray.launch.live.progress import Progress
from l2t_ray.launch.live.tally import Feed, Launched, Tally
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import threads_tag
from l2t_ray.launch.worker.job import Work
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.recorder import Recorder
from l2t_ray.run import AnyRun

logger = logging.getLogger(__name__)


def launch(
    runs: Sequence[AnyRun],
    cells: Mapping[str, str],
    *,
    data_sha: Callable[[AnyRun], str],
    ledger: Ledger,
    work: Work,
    lanes: Lanes,
    execution: Execution,
    progress: Progress,
    storage: Path,
    feed: Feed | None = None,
) -> Launched:
    """Trains runs on the running Ray until all have ended or a signal comes.

    Args:
        runs: to train; with a feed none.
        cells: key to cell.
        data_sha: the digest of a run's images.
        ledger: opened for writing.
        work: how packs are trained.
        lanes: each shape's share of each kind of device.
        execution: of the sweep file: retries, patience with processes that hang, whether a cell is stopped.
        progress: shows the launch; it knows no run yet.
        storage: a folder for Tune, emptied afterwards.
        feed: gives the runs while the launch lasts.

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
    place = {shape: number for number, shape in enumerate(lanes.longest_first())}
    runs = sorted(runs, key=lambda run: place[lanes.shape_of[run.key]])
    tally = Tally(runs, lanes, progress, feed)
    n_slots = max(sum(lanes.share(name, group).slots for group in lanes.groups) for name in lanes.example)
    n_ahead = max(lanes.share(name, group).pack for group in lanes.groups for name in lanes.example) * 2 * n_slots
    # by default a searcher has one pending trial; with more, Tune keeps processes for the next packs
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(2 * n_slots)
    # it would count failed trials at the end; each was reported already
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    storage.mkdir(parents=True, exist_ok=True)
    usage = Usage()

    with (
        progress,
        Recorder(ledger, lambda key: checkpoint.remove_state(work.checkpoint(key))) as recorder,
        on_other_nodes() as others,
    ):

        def on_end(run: AnyRun, ended: Ended, pack: Pack, device: str) -> None:
            tags = {"shape": pack.shape, "device": device or pack.share.device}
            tags |= {"pack": str(len(pack.runs)), "processes": str(pack.share.processes)}
            tags |= threads_tag(tags["device"], pack.share.threads)
            recorder.add(run, ended, (feed.cells if feed else cells)[run.key], data_sha(run), tags)
            tally.ended(run.key, ended.status, ended.reason, ended.wall_s, ended.metrics, (pack.shape, pack.group))
            if feed:
                feed.ended(run, ended)

        def on_stop(cell: str, reason: str) -> None:
            progress.tell(
                f"{cell} is stopped: two of its runs raised the same error, {reason}. Its other runs are not trained; "
                "correct that and launch with --retry-failed, or set execution.fail_fast=false"
            )

        queue = Queue(
            runs,
            lanes,
            work,
            retries=execution.retries,
            on_end=on_end,
            more=tally.more,
            n_ahead=n_ahead if feed else 0,
            stops=Stops(cells, on_stop if execution.fail_fast and feed is None else None),
            on_drop=lambda run: tally.drop(run.key),
        )
        events = Events(
            queue,
            progress,
            recorder,
            usage=usage,
            epoch_s=lambda pack: lanes.epoch_s(pack.shape, pack.group),
            hang_s=execution.hang_s,
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
                callbacks=[events],
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
    return tally.launched(recorder.n_left, busy)


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
