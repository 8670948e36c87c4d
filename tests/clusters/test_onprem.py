"""clusters/onprem.yaml for real: sshd, `ray up`, sweeps from outside, lost nodes, `ray down`, no process left."""

import re
import time
from pathlib import Path

import pytest

from tests.clusters import hosts
from tests.clusters.onprem import Site
from tests.support.marks import LONG
from tests.support.stepped import Steps
from tests.support.waiting import wait_for

SWEEP = """
sweep: tiny
methods: [stepped.py]
run:
  data: {name: digits, samples_per_class: 4}
  target: {width: 0.125}
  training: {epochs: EPOCHS, batch_size: 16}
  record: {evaluations: 0}
grid:
  - {method: [stepped], seed: {from: 0, to: LAST}}
execution: {retries: 0, checkpoint_s: 0, hang_s: 3600, storage: STORAGE, pack: PACK}
"""
# Google's metadata service, as static files: the machine is about to be taken
NOTICE = """
mkdir -p /tmp/metadata/computeMetadata/v1/instance && echo TRUE > /tmp/metadata/computeMetadata/v1/instance/preempted
(python -m http.server --bind 127.0.0.1 --directory /tmp/metadata 8099 >/dev/null 2>&1 &)
until (: </dev/tcp/127.0.0.1/8099) 2>/dev/null; do sleep 0.1; done
source ~/.bashrc
python ~/l2t-ray/clusters/notice.py --aws http://127.0.0.1:9 --gcp http://127.0.0.1:8099
"""
KEPT = "find ~/.cache/l2t_ray -type f -printf '%f '"
PROGRESS = "cat ~/l2t-ray/.l2t/tiny/progress.json"
LAUNCH = "cd ~/l2t-ray && OMP_NUM_THREADS=1 python -m l2t_ray.sweep sweeps/tiny.yaml --address auto --no-probe"


@pytest.fixture
def lab(tmp_path):
    hosts.require()
    with hosts.Lab(tmp_path) as lab:
        yield lab


def write_sweep(site, last, epochs, storage=".l2t", pack="auto"):
    """The sweep, and the gate of its trainings; an epoch has three steps."""
    text = SWEEP.replace("EPOCHS", str(epochs)).replace("LAST", str(last)).replace("STORAGE", storage)
    text = text.replace("PACK", str(pack))
    (site.checkout / "sweeps" / "tiny.yaml").write_text(text)
    shared = Path(site.lab.folder) / "shared"
    steps = Steps(shared, seen_as="/mnt/shared")
    (shared / "stepped.py").write_text(steps.method)
    steps.allow(None)
    return steps


@LONG
def test_a_cluster_of_one_host_comes_up_trains_and_leaves_no_process(lab):
    site = Site(lab, 0, L2T_LEDGER="none")
    write_sweep(site, last=1, epochs=1)
    site.up()
    site.head.run("cp /mnt/shared/stepped.py ~/l2t-ray/")
    told = site.execute(f"{LAUNCH} --json")
    assert "2 of 2 runs ended (2 finished)" in told
    assert '"n_finished": 2' in told
    token = site.laptop.run("cat ~/.ray/auth_token")
    assert token == site.head.run("cat ~/.ray/auth_token")
    assert site.head.run("stat -c %a ~/.ray/auth_token ~/.l2t_shell").split() == ["600", "600"]
    assert token not in told
    listening = site.head.run("ss -ltnH 'sport = :8265' | awk '{print $4}'").split()
    assert listening == ["127.0.0.1:8265"]  # the dashboard
    stranger = site.head.run("source ~/.bashrc; RAY_AUTH_MODE=disabled ray status 2>&1", check=False)
    assert "Autoscaler status" not in stranger  # nobody without the token
    site.down()
    assert site.left() == {}


@pytest.fixture
def note(record_property):
    """Writes down when something had happened, for docs/reliability.md."""
    begun = time.monotonic()

    def note(what):
        record_property(what, round(time.monotonic() - begun, 1))
        print(f"{what}: {time.monotonic() - begun:.1f} s")

    return note


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_hosts_come_up_twice_take_a_sweep_and_a_job_from_outside_and_go_down_whole(lab, note):
    site = Site(lab, 2, L2T_LEDGER="postgres", L2T_KEPT="/mnt/own/kept")
    write_sweep(site, last=11, epochs=200, storage="/mnt/shared/storage")
    site.up()
    note("head up, with PostgreSQL and MLflow")
    site.wait_for_nodes(3)
    note("two workers joined")
    site.up()
    site.wait_for_nodes(3)
    note("a second ray up, all joined again")
    site.head.run("cp /mnt/shared/stepped.py ~/l2t-ray/")
    told = site.execute(LAUNCH)
    assert "on the cluster: " in told
    assert "12 of 12 runs ended (12 finished)" in told
    note("a sweep from outside")
    kept = [host.run(KEPT, check=False).split() for host in site.workers]
    assert any("stepped.py" in names and sum(name.endswith(".lock") for name in names) == 2 for names in kept), kept
    assert "12/12" in site.local(tunnelled(site, f"{LAUNCH} --status"))
    note("a job through a tunnel")
    site.down()
    assert site.left() == {}
    note("down, no process left")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_hosts_that_go_with_and_without_notice_cost_no_run_and_others_join(lab, note):
    site = Site(lab, 2, L2T_LEDGER="none")
    steps = write_sweep(site, last=23, epochs=200, storage="/mnt/shared/storage")
    steps.allow(150)  # in the midst of some packs, however many are trained at once
    site.up()
    site.wait_for_nodes(3)
    site.head.run("cp /mnt/shared/stepped.py ~/l2t-ray/")
    launch = site.laptop.start(f'cd "/mnt/own/it\'s a checkout" && {site.executed(LAUNCH)} > /mnt/own/launch.log')
    log = Path(lab.folder) / "own-laptop" / "launch.log"
    storage = Path(lab.folder) / "shared" / "storage" / "tiny" / "checkpoints"
    wait(lambda: steps.n_taken >= 150 and list(storage.glob("*.ckpt")), launch, log)
    note("training on three hosts")
    site.workers[0].kill()  # without notice
    note("a host lost without notice")
    told = site.workers[1].run(NOTICE)  # with notice
    assert "this machine is about to be taken" in told
    assert "no Ray runs here" not in told
    site.workers[1].kill()
    note("a host lost with notice")
    steps.allow(300)
    wait(lambda: site.n_nodes() == 1, launch, log)
    site.workers = [lab.add("worker0"), lab.add("worker1")]  # new machines at the old addresses
    wait(lambda: site.n_nodes() >= 2, launch, log)
    note("a new host joined")
    steps.allow(None)
    assert launch.wait(1200) == 0, log.read_text()[-4000:]
    note("the sweep is complete")
    assert "24 of 24 runs ended (24 finished)" in log.read_text()
    site.down()
    assert site.left() == {}


def tunnelled(site, command):
    """Submits a job to the dashboard's port, through ssh."""
    tunnel = "ssh -f -N -i /mnt/shared/.lab/id -o StrictHostKeyChecking=no -L 8265:127.0.0.1:8265"
    job = f"RAY_AUTH_MODE=token ray job submit --address http://127.0.0.1:8265 -- bash -c '{command}' 2>&1"
    return f"{tunnel} root@{site.head.address} </dev/null >/dev/null 2>&1; {job}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_lost_head_is_made_anew_over_the_kept_ledger_and_the_sweep_goes_on(lab):
    site = Site(lab, 0, L2T_KEPT="/mnt/own/kept")  # as a volume does, this folder outlives the host
    steps = write_sweep(site, last=5, epochs=40, storage="/mnt/shared/storage", pack=1)
    steps.allow(6 * 40 * 3 - 1)  # the last of all runs cannot end
    site.up()
    site.head.run("cp /mnt/shared/stepped.py ~/l2t-ray/")
    log = Path(lab.folder) / "own-laptop" / "launch.log"
    launch = site.laptop.start(f'cd "/mnt/own/it\'s a checkout" && {site.executed(LAUNCH)} > /mnt/own/launch.log')
    wait(lambda: re.search("[2-5] of 6 runs ended", site.head.run(PROGRESS, check=False)), launch, log)
    site.head.kill()
    assert launch.wait(240) != 0
    steps.allow(None)
    site.head = lab.add("head")  # an empty machine
    site.laptop.run("rm -f /tmp/ray/cluster-l2t.state")  # of machines that nobody ends, Ray believes that they stay
    site.up()
    site.head.run("cp /mnt/shared/stepped.py ~/l2t-ray/")
    told = site.execute(LAUNCH)
    found = re.search(r"6 runs wanted, (\d) finished, (\d) to train", told)
    assert found, told[-3000:]
    assert int(found[1]) >= 2
    assert f"{found[2]} of {found[2]} runs ended ({found[2]} finished)" in told
    assert "6/6" in told
    site.down()
    assert site.left() == {}


def wait(found, process, log):
    wait_for(found, process=process, told=lambda: log.read_text()[-4000:], most_s=900, pause_s=0.5)
