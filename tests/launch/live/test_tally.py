"""What a launch has done: its training time beside the planned one, and what is left."""

import io

import pytest

from l2t_ray.config import Execution
from l2t_ray.launch.live.cells import Cells
from l2t_ray.launch.live.progress import Progress
from l2t_ray.launch.live.tally import Tally
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.eta import Forecast, Lane
from l2t_ray.launch.placement.measurements import Figures
from l2t_ray.launch.placement.packing import shape
from tests.support.queues import make_run

CPU = Group("cpu", 1, 0, 2.0, is_gpu=False)


@pytest.fixture
def begin(tmp_path):
    """Begins a launch of runs; a run of their shape took 7 s, if that is known."""

    def begin(runs, *, known=True, feed=None):
        cells = {run.key: "a cell" for run in runs}
        figures = Figures(tmp_path / "figures.json")
        times = {(shape(runs[0]), "cpu"): 7.0} if known else {}
        lanes = Lanes(Execution(), [CPU], figures, runs, cells, known=times)
        forecast = Forecast(lambda _: [Lane("cpu", 1, 1, None)])
        progress = Progress("tiny", Cells(cells), forecast, tmp_path / "progress.json", stream=io.StringIO())
        return Tally([] if feed else runs, lanes, progress, feed), progress

    return begin


def test_failed_runs_count_neither_in_the_planned_time_nor_in_the_spent_one(begin):
    runs = [make_run(seed) for seed in range(4)]
    tally, _ = begin(runs)
    place = (shape(runs[0]), CPU)
    for run, status, wall_s in zip(runs, ("finished", "failed", "diverged"), (5.0, 100.0, 200.0), strict=False):
        tally.ended(run.key, status, "", wall_s, {}, place)
    found = tally.launched(n_spooled=2)
    assert (found.predicted_s, found.spent_s, found.n_left, found.n_spooled) == (7.0, 5.0, 1, 2)


@pytest.mark.parametrize("is_known", [True, False])
def test_without_a_plan_for_every_finished_run_there_is_no_planned_time(begin, is_known):
    runs = [make_run(seed) for seed in range(2)]
    tally, _ = begin(runs, known=is_known)
    tally.ended(runs[0].key, "finished", "", 5.0, {}, (shape(runs[0]), CPU))
    tally.ended(runs[1].key, "finished", "", 6.0, {})  # by a job of which nobody knows the device
    found = tally.launched(0)
    assert (found.predicted_s, found.spent_s) == (None, 11.0)


def test_a_dropped_run_is_neither_left_nor_ended(begin):
    runs = [make_run(seed) for seed in range(2)]
    tally, progress = begin(runs)
    tally.drop(runs[0].key)
    tally.ended(runs[1].key, "finished", "", 5.0, {}, (shape(runs[1]), CPU))
    found = tally.launched(0)
    assert (found.n_left, found.n_stopped) == (0, 1)
    assert progress.view().line.startswith("1 of 1 runs ended")


class Studies:
    """A search with some runs to hand out."""

    def __init__(self, runs):
        self.waiting, self.studies, self.cells = [*runs], {run.key: "a cell" for run in runs}, {}

    @property
    def n_further(self):
        return len(self.waiting)

    def next_runs(self, n):
        found, self.waiting = self.waiting[:n], self.waiting[n:]
        return found


def test_what_a_search_may_still_hand_out_is_left_too(begin):
    runs = [make_run(seed) for seed in range(3)]
    tally, progress = begin(runs, feed=Studies(runs))
    assert tally.launched(0).n_left == 3
    assert tally.more(2) == runs[:2]
    assert (tally.left, progress.n_further) == ({run.key for run in runs[:2]}, 1)
    tally.ended(runs[0].key, "finished", "", 5.0, {}, (shape(runs[0]), CPU))
    assert tally.launched(0).n_left == 2
