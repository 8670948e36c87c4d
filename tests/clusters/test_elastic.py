"""From no machine to some and back: Ray's own autoscaler, in a host of its own, starts what a sweep waits for."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.clusters import hosts
from tests.support import stepped
from tests.support.places import ROOT

# in the host's own mounts alone: the file that Ray's wheel lacks
COMPLETE = """
folder=$(python -c 'import ray, pathlib; print(pathlib.Path(ray.__file__).parent)')/autoscaler/_private/fake_multi_node
cp -r "$folder" /mnt/complete && cp /mnt/own/fake_multi_node.yaml /mnt/complete/example.yaml
mount --bind /mnt/complete "$folder"
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_sweep_has_its_machines_started_and_they_go_when_it_is_over(tmp_path):
    hosts.require()
    with hosts.Lab(tmp_path) as lab:
        head = lab.add("head")
        own = tmp_path / "own-head"
        shutil.copytree(ROOT / "l2t_ray", own / "l2t_ray")
        for name in ("elastic.py", "fake_multi_node.yaml"):
            shutil.copy(Path(__file__).with_name(name), own)
        shutil.copy(stepped.__file__, own / "stepped.py")
        head.run(COMPLETE)
        told = head.run(f"cd /mnt/own && PYTHONPATH=/mnt/own {sys.executable} elastic.py /mnt/own 2>log", timeout=3000)
        found = json.loads(next(line for line in told.splitlines() if line.startswith('{"seen"')))
    assert found["code"] == 0, found["err"]
    nothing = {"head": 1, "gpu_spot": 0, "gpu_on_demand": 0}
    assert found["seen"][0] == nothing
    assert "no machine that can train runs yet; the cluster is asked for one with a card" in found["err"]
    assert json.loads(found["out"])["n_finished"] == 10
    most = {kind: max(count[kind] for count in found["seen"]) for kind in nothing}
    assert most == {"head": 1, "gpu_spot": 2, "gpu_on_demand": 0}, found["seen"]  # the packs that waited asked for two
    assert found["after"] == nothing
