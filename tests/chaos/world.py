"""A pretended data centre on one machine: Ray's nodes, a ledger and a launch, each of which may be killed."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from l2t_ray import models
from l2t_ray.data.streams import stream
from l2t_ray.ledger.ledger import Ledger
from tests.support.launches import is_over
from tests.support.places import ROOT
from tests.support.ports import free_port
from tests.support.servers import MlflowServer, Postgres
from tests.support.stepped import Steps
from tests.support.waiting import wait_for

NAME = "storm"
NODES = 2  # beside the head, where Ray is not the launch's own
START_S = 240.0
FILE = """
sweep: storm
methods: [{method}.py]
run:
  data: {{name: digits, samples_per_class: 4}}
  target: {{width: 0.125}}
  source: {{arch: resnet20, width: 0.125, weights: net.pt}}
  training: {{epochs: {epochs}, batch_size: 16, lr: 0.02}}
  transfer: {{beta: 0.001}}
  record: {{evaluations: 3}}
grid:
  - {{method: [{method}], seed: {{from: 0, to: {last}}}, training: {{epochs: {many}}}}}
  - {{method: [ufm], seed: {others}, training: {{epochs: {many}}}}}
  - {{method: [l2t_www], seed: {others}}}
execution: {{retries: 0, checkpoint_s: 1, hang_s: {hang_s}, data_dir: {data_dir}}}
"""
# so that a run lasts long enough to be killed without keeping a core busy; the sleep changes no result
DROWSY = """
import os, time
from dataclasses import dataclass
from l2t_ray.methods import Method
from l2t_ray.registry import register

@dataclass(frozen=True)
class Drowsy(Method):
    def loss(self, extra, batch, options):
        time.sleep(float(os.environ.get("DROWSY_S", "0")))
        return 0.01 * batch.logits.square().mean()

register(Drowsy("drowsy", uses=frozenset({"transfer.beta"})))
"""


def descendants(pid):
    """A process and all below it; those that have ended meanwhile are left out."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_tree(pid):
    """SIGKILL to a process and all below it, until none is left to start another."""

    def are_over():
        found = descendants(pid)
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return all(is_over(process) for process in found)  # whoever started it asks how it ended

    wait_for(are_over, most_s=60)


@contextlib.contextmanager
def small_disk(mebibytes):
    """A folder on a disk of its own that can be filled, or None where none may be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="l2t-chaos-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    can = shutil.which("mount") is not None
    mounted = can and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Size:
    """How much a sweep trains."""

    seeds: int
    epochs: int  # of the bilevel method
    many: int  # of the others, which are quick
    others: int = 2  # seeds of the other methods
    drowsy_s: float = 0.05  # a step of three an epoch
    gate: int = 0  # instead of that, trainings stand still after so many steps, until a kill allows as many more


class World:
    """A working folder, its ledger, Ray, and the launch.

    Args:
        folder: the working folder, with net.pt and the sweep file.
        backend: where the ledger is: sqlite, server (over SQLite), postgres, or served-postgres.
        nodes: whether Ray's nodes are started apart from the launch, or by it on one machine.

    Attributes:
        steps: the gate of its trainings, where `prepare` has written one.
    """

    def __init__(self, folder, backend, *, nodes, drowsy_s=0.05):
        self.folder, self.backend, self.has_nodes, self.drowsy_s = folder, backend, nodes, drowsy_s
        self.servers, self.nodes, self.driver, self.address = [], [], None, ""
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.temporary = Path(tempfile.mkdtemp(prefix="rc", dir="/tmp"))
        self.store = f"sqlite:///{self.temporary / 'server.db'}"  # behind the server
        self.joined, self.codes = 0, []
        self.steps = Steps(folder) if (folder / "stepped.py").exists() else None

    def __enter__(self):
        try:
            if "postgres" in self.backend:
                self.servers.append(Postgres(self.temporary).start())
                self.uri = self.store = self.servers[0].database()
            if self.backend in {"server", "served-postgres"}:
                self.servers.append(MlflowServer(self.store, self.temporary).start())
                self.uri = self.servers[-1].uri
            self.start_nodes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill_everything()
        shutil.rmtree(self.temporary, ignore_errors=True)

    @property
    def environment(self):
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_AUTH_MODE": "token"}
        quiet["RAY_TMPDIR"] = str(self.temporary)  # by which `kill_everything` finds them all
        # a lost node is noticed after 3 s instead of half a minute
        quick = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
        paths = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": self.uri, "OMP_NUM_THREADS": "1"}
        return {**os.environ, **quiet, **(quick if self.has_nodes else {}), **paths, "DROWSY_S": str(self.drowsy_s)}

    # Ray's nodes

    def start_nodes(self):
        if self.has_nodes and not self.nodes:
            self.address = f"127.0.0.1:{free_port()}"
            port = self.address.split(":")[1]
            self.start_node("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")
            for _ in range(NODES):
                self.join_node()

    def join_node(self):
        """Another machine, with an address of its own; the launch is on the head's."""
        self.joined += 1
        address = f"127.0.0.{self.joined + 1}"
        self.start_node(f"--address={self.address}", "--num-cpus=1", f"--node-ip-address={address}")

    def start_node(self, *arguments):
        """A node, which is a process with children; returns when it has joined."""
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats", *arguments]
        command += ["--object-store-memory=80000000"]
        if "--head" in arguments:
            command += [f"--temp-dir={self.temporary}", f"--ray-client-server-port={free_port()}"]
        for name in ("metrics-export", "dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent"):
            command.append(f"--{name}-port={free_port()}")
        log = self.temporary / f"node-{time.monotonic_ns()}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, env=self.environment, stdout=stream, stderr=stream, start_new_session=True
            )
        self.nodes.append(process)
        has_joined = lambda: b"Ray runtime started" in log.read_bytes()  # noqa: E731
        wait_for(has_joined, process=process, told=lambda: log.read_text()[-2000:], most_s=START_S)

    def lose_node(self):
        node = self.nodes.pop(1)
        kill_tree(node.pid)
        node.wait()

    # the launch

    def launch(self):
        command = [sys.executable, "-m", "l2t_ray.sweep", f"{NAME}.yaml", "--json", "--no-probe"]
        command += ["--address", self.address] if self.has_nodes else []
        with (self.temporary / "launch.out").open("wb") as out, (self.temporary / "launch.err").open("ab") as err:
            self.driver = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=out, stderr=err, start_new_session=True
            )

    def kill_driver(self):
        """The launch's process alone: a Ray of its own is left to end by itself."""
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()

    def own_raylet(self):
        """The raylet that the launch has started, with its workers below it; None where there is none."""
        found = [p for p in descendants(self.driver.pid) if name_of(p) == "raylet"] if self.driver else []
        return found[0].pid if found else None

    def workers(self):
        """The processes that train."""
        roots = [node.pid for node in self.nodes] + ([self.driver.pid] if self.driver is not None else [])
        return [p.pid for root in roots for p in descendants(root) if "Trainable" in title_of(p)]

    def kill_everything(self):
        """All at once: launch, Ray, MLflow's server, the database."""
        pids = [process.pid for process in [*self.nodes, *([self.driver] if self.driver else [])]]
        pids += [server.process.pid for server in self.servers if server.process is not None]
        found = [process for pid in pids for process in descendants(pid)]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for pid in pids:
            kill_tree(pid)
        wait_for(self._nothing_is_left, most_s=60)
        for process in [*self.nodes, *([self.driver] if self.driver else [])]:
            process.wait()
        for server in self.servers:
            server.stop()
        self.nodes = []

    def _nothing_is_left(self):
        """Kills what is not below a process of ours any more: the Ray of a launch that was killed before."""
        left = [process for process in psutil.process_iter() if self._is_ours(process) and not is_over(process)]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return not left

    def _is_ours(self, process):
        if process.pid == os.getpid():
            return False
        with contextlib.suppress(psutil.Error):
            if str(self.temporary) in title_of(process):
                return True
            return process.environ().get("RAY_TMPDIR") == str(self.temporary)
        return False

    def restart(self):
        for server in self.servers:
            if server.process is None:
                server.start()
        self.start_nodes()

    def told(self):
        return (self.temporary / "launch.err").read_text(errors="replace")


def name_of(process):
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return process.name()
    return ""


def title_of(process):
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""


def prepare(folder, size, data_dir):
    """Writes a sweep file, and a source network whose weights are its seed's."""
    network = models.ResNet(20, 0.125, 10)
    models.initialise(network, stream(0, "init"))
    method, hang_s = ("stepped", 3600) if size.gate else ("drowsy", 20)
    (folder / f"{method}.py").write_text(Steps(folder).method if size.gate else DROWSY)
    Steps(folder).allow(None)
    torch.save({"state_dict": network.state_dict()}, folder / "net.pt")
    given = {"epochs": size.epochs, "many": size.many, "last": size.seeds - 1, "others": [*range(size.others)]}
    text = FILE.format(**given, method=method, hang_s=hang_s, data_dir=json.dumps(str(data_dir)))
    (folder / f"{NAME}.yaml").write_text(text)


def ledger_of(world):
    return Ledger(NAME, world.uri, folder=world.folder)


def hold_database(world, seconds):
    """Locks the ledger's database as a stuck writer would."""
    file = world.folder / "mlflow.db" if world.uri.startswith("sqlite") else world.temporary / "server.db"
    if "postgres" in world.backend:
        import psycopg

        with psycopg.connect(world.store) as connection:
            connection.execute("LOCK TABLE runs, tags, params, metrics, latest_metrics IN ACCESS EXCLUSIVE MODE")
            time.sleep(seconds)
            connection.rollback()
        return
    with contextlib.closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")


def freeze(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
