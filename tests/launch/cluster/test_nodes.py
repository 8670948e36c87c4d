"""Samples from every machine of a cluster, and from those that are gone none."""

import threading
import time

import psutil
import pytest

from l2t_ray.launch.cluster import connection, nodes
from tests.support.launches import OF_RAY

pytestmark = OF_RAY


@pytest.mark.slow
def test_the_other_machines_are_sampled_and_one_that_is_gone_is_told(monkeypatch, caplog):
    monkeypatch.setattr(nodes, "ANSWER_S", 5.0)
    with connection.cluster(None, n_cores=1):
        pass  # sets the environment
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1})
    try:
        kept, lost = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        with nodes.on_other_nodes() as read:
            end = time.monotonic() + 60
            while len(found := read()) < 2 and time.monotonic() < end:
                time.sleep(0.2)
            assert {name.rsplit(" ", 1)[1] for name in found} == {"cpu"}
            assert all(0 <= device["mean_percent"] <= 100 and device["bytes"][0] > 0 for device in found.values())
            cluster.remove_node(lost, allow_graceful=False)
            caplog.clear()
            end = time.monotonic() + 60  # its workers outlive it for a moment
            while len(left := read()) > 1 and time.monotonic() < end:
                time.sleep(0.2)
        assert len(left) == 1
        assert set(left) < set(found)
        assert "does not answer" in caplog.text
        assert str(kept.node_manager_port) in next(iter(left))
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
    end = time.monotonic() + 30
    while not meter.read()["devices"] and time.monotonic() < end:
        time.sleep(0.01)
    assert meter.read()["devices"]["cpu"]["percent"][0] == 50.0
