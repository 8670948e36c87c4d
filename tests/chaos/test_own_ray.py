"""A launch whose own Ray is killed below it ends and says so, instead of waiting for ever."""

import time

import pytest

from tests.chaos.world import Size, World, kill_tree, prepare


@pytest.mark.slow
@pytest.mark.timeout(800)
def test_a_launch_that_loses_its_own_raylet_ends_and_the_next_one_goes_on(tmp_path):
    prepare(tmp_path, Size(seeds=4, epochs=2, many=40), tmp_path / "data")
    with World(tmp_path, "sqlite", nodes=False, drowsy_s=0.1) as world:
        world.launch()
        end = time.monotonic() + 240
        while not world.workers():
            assert world.driver.poll() is None, world.told()
            assert time.monotonic() < end, world.told()
            time.sleep(0.1)
        kill_tree(world.own_raylet())
        assert world.driver.wait(240) == 1, world.told()
        assert "launch again to go on from their checkpoints" in world.told()
        assert "Traceback" not in world.told()
        world.launch()
        assert world.driver.wait(250) == 0, world.told()
