"""A launch whose own Ray is killed below it ends and says so, instead of waiting for ever."""

import pytest

from tests.chaos.world import Size, World, kill_tree, prepare
from tests.support.waiting import wait_for


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_launch_that_loses_its_own_raylet_ends_and_the_next_one_goes_on(tmp_path):
    prepare(tmp_path, Size(seeds=2, epochs=2, many=40, others=1, gate=30), tmp_path / "data")
    with World(tmp_path, "sqlite", nodes=False) as world:
        world.steps.allow(30)
        world.launch()
        wait_for(lambda: world.steps.n_taken >= 30, process=world.driver, told=world.told, most_s=600)
        kill_tree(world.own_raylet())
        assert world.driver.wait(600) == 1, world.told()
        assert "launch again to go on from their checkpoints" in world.told()
        assert "Traceback" not in world.told()
        world.steps.allow(None)
        world.launch()
        assert world.driver.wait(600) == 0, world.told()
