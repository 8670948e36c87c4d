"""A real Slurm of one node on loopback, with the user's own keys and folders."""

import os
import secrets
import shutil
import socket
import subprocess
from contextlib import contextmanager

from tests.support.ports import free_port
from tests.support.waiting import wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo")
CONFIGURATION = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """What of Slurm is not installed, or that this user may not start it; empty if it can run."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None]
    return f"no {', '.join(absent)} here (apt-get install slurmctld slurmd munge)" if absent else ""


@contextmanager
def running(folder):
    """Starts munge, the controller and the node; yields the variables with which Slurm's commands find them."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    configuration, key = folder / "slurm.conf", folder / "munge.key"
    host, user = socket.gethostname().partition(".")[0], os.environ.get("USER") or "root"
    settings = {"host": host, "user": user, "folder": folder, "controller": free_port(), "node": free_port()}
    configuration.write_text(CONFIGURATION.format(**settings))
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    variables = {**os.environ, "SLURM_CONF": str(configuration), "PATH": os.environ["PATH"] + ":/usr/sbin"}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.sock"]
    munge += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/seed"]
    processes = []

    def start(*command):
        log = (folder / f"{command[0]}.out").open("wb")
        processes.append(subprocess.Popen(command, env=variables, stdout=log, stderr=log))
        return processes[-1]

    def ask_slurm(*command):
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False).stdout.strip()

    try:
        wait_for((folder / "munge.sock").exists, process=start(*munge))
        start("slurmctld", "-D", "-i")
        start("slurmd", "-D")
        wait_for(lambda: "idle" in ask_slurm("sinfo", "--noheader", "--format=%T"), process=processes[-1], pause_s=0.5)
        yield {"SLURM_CONF": str(configuration)}
    finally:
        subprocess.run(["scancel", "--full", "--signal=KILL", "--user", user], env=variables, check=False)
        wait_for(lambda: not ask_slurm("squeue", "--noheader"), pause_s=0.5)
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(timeout=60)
