"""Samples from every machine of a cluster, and from those that are gone none."""

import threading

import psutil
import pytest

from l2t_ray.launch.cluster import connection, nodes
from tests.support.launches import OF_RAY
from tests.support.marks import LONG
from tests.support.waiting import wait_for

pytestmark = OF_RAY


@pytest.mark.slow
@LONG
def test_the_other_machines_are_sampled_and_one_that_is_gone_is_told(monkeypatch, caplog, no_ray):
    monkeypatch.setattr(nodes, "ANSWER_S", 60.0)  # one that is gone answers at once, with an error
    connection.prepare_environment()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1})
    try:
        kept, lost = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        with nodes.on_other_nodes() as read:
            found = wait_for(lambda: answers if len(answers := read()) == 2 else None)
            assert {name.rsplit(" ", 1)[1] for name in found} == {"cpu"}
            assert all(0 <= device["mean_percent"] <= 100 and device["bytes"][0] > 0 for device in found.values())
            cluster.remove_node(lost, allow_graceful=False)
            caplog.clear()
            mine = {name for name in found if str(kept.node_manager_port) in name}
            wait_for(lambda: set(read()) == mine)  # the other's workers outlive it for a moment
        assert "does not answer" in caplog.text
        assert len(mine) == 1
    finally:
        import ray

        ray.shutdown()
        cluster.shutdown()


def test_the_first_sample_of_another_machine_is_measured(monkeypatch):
    calls = []

    def cpu_percent():  # psutil's: what is before it in this thread is its beginning
        calls.append(threading.get_ident())
        return 0.0 if calls.count(threading.get_ident()) == 1 else 50.0

    monkeypatch.setattr(psutil, "cpu_percent", cpu_percent)
    monkeypatch.setattr(nodes, "LOOK_S", 0.01)
    meter = nodes.Meter()
    try:
        assert wait_for(lambda: meter.read()["devices"])["cpu"]["percent"][0] == 50.0
    finally:
        meter.close()
