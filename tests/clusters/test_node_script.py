"""clusters/node.sh: what it refuses, what it tells Ray's autoscaler, MPS, the kept volume."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters.cluster_files import ROOT, prepared


def test_the_node_script_is_clean_and_refuses_what_it_must(tmp_path):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    script = ROOT / "clusters" / "node.sh"
    if shellcheck.exists():
        found = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "L2T_VENV": sys.prefix}

    def refused(*arguments, **settings):
        found = subprocess.run(
            [script, *arguments], capture_output=True, text=True, check=False, env={**environment, **settings}
        )
        assert found.returncode == 2, found
        return found.stderr

    assert "the command must be one of install, mps" in refused("instal")
    assert "L2T_HOST must be 127.0.0.1 unless MLFLOW_AUTH_ADMIN_PASSWORD is set, got 0.0.0.0" in refused(
        "ledger", L2T_HOST="0.0.0.0"
    )
    assert "L2T_LEDGER must be sqlite, postgres or none, got oracle" in refused("ledger", L2T_LEDGER="oracle")
    assert "L2T_VENV must hold an environment" in refused("install", L2T_VENV="/nowhere")
    assert "mount must be given a block device, got '/dev/null'" in refused("mount", "/dev/null")
    assert "nvidia-cuda-mps-control" in refused("mps", L2T_MPS="on", PATH="/usr/bin:/bin")


def test_rays_autoscaler_is_told_of_every_machine_of_ones_own(tmp_path):
    """As it is, it counts the head among the workers of its kind, starts one too few, and holds the head for gone."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest

    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(json.dumps({**prepared("clusters/onprem.yaml"), "auth": {"ssh_user": "researcher"}}))

    def launched():
        kinds = AutoscalingConfig(json.loads(path.read_text()), skip_content_hash=True).get_node_type_configs()
        request = SchedulingRequest(disable_launch_config_check=True, node_type_configs=kinds, max_num_nodes=3)
        reply = ResourceDemandScheduler(None).schedule(request)
        return sum(one.count for one in reply.to_launch)

    assert launched() == 2  # three machines are wanted in all, and the head will be one of those counted
    script = ROOT / "clusters" / "node.sh"
    environment = {"HOME": str(tmp_path), "L2T_VENV": sys.prefix, "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([script, "autoscaler"], env=environment, check=True)
    assert launched() == 3
    known = json.loads((tmp_path / "ray" / "cluster-l2t.state").read_text())
    states = {address: (machine["tags"]["ray-node-type"], machine["state"]) for address, machine in known.items()}
    assert states == {
        "192.0.2.10": ("head", "running"),
        "192.0.2.11": ("worker", "terminated"),
        "192.0.2.12": ("worker", "terminated"),
    }


def test_mps_is_started_once_on_a_node_and_every_process_of_ray_is_told(tmp_path):
    called = tmp_path / "called"
    control = tmp_path / "bin" / "nvidia-cuda-mps-control"
    control.parent.mkdir()
    control.write_text(f"""#!/bin/sh
if [ "$1" = -d ]; then echo "$CUDA_MPS_PIPE_DIRECTORY" >> {called}; exit 0; fi
test -f {called}  # asked for its servers: is it there?
""")
    control.chmod(0o755)
    environment = {"HOME": str(tmp_path), "L2T_VENV": sys.prefix, "PATH": f"{control.parent}:{os.environ['PATH']}"}
    script = str(ROOT / "clusters" / "node.sh")
    for command, wish in (("mps", "off"), ("mps", "on"), ("mps", "on"), ("install", "on")):
        subprocess.run([script, command], env={**environment, "L2T_MPS": wish}, check=True)
    (folder,) = called.read_text().split()
    shell = (tmp_path / ".l2t_shell").read_text()
    assert f"export CUDA_MPS_PIPE_DIRECTORY={folder} " in shell
    assert Path(folder).parent.stat().st_mode & 0o077 == 0
    assert (tmp_path / ".bashrc").read_text().count("l2t_shell") == 2  # one line


@pytest.mark.slow
def test_the_kept_volume_gets_a_file_system_once_and_keeps_what_it_holds(tmp_path):
    """A real block device and a real mount, in a mount namespace of its own."""
    if os.geteuid() != 0 or subprocess.run(["losetup", "-f"], capture_output=True, check=False).returncode:
        pytest.skip("needs to be root, and loop devices")
    image = tmp_path / "disk"
    image.write_bytes(bytes(64 << 20))
    device = subprocess.run(
        ["losetup", "-f", "--show", image], capture_output=True, text=True, check=True
    ).stdout.strip()
    steps = f"""
export HOME={tmp_path} L2T_KEPT={tmp_path}/kept
{ROOT}/clusters/node.sh mount {device} && echo one > $L2T_KEPT/ledger
{ROOT}/clusters/node.sh mount {device} && cat $L2T_KEPT/ledger
umount $L2T_KEPT && ! test -e $L2T_KEPT/ledger
{ROOT}/clusters/node.sh mount {device} && cat $L2T_KEPT/ledger
umount $L2T_KEPT
"""
    try:
        told = subprocess.run(
            ["unshare", "-m", "bash", "-ec", steps], capture_output=True, text=True, timeout=240, check=False
        )
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
    assert (told.returncode, told.stdout) == (0, "one\none\n"), told.stderr
