"""Real servers on loopback for tests: MLflow's, and PostgreSQL from the distribution's package."""

import contextlib
import getpass
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.support.ports import free_port
from tests.support.waiting import wait_for


class MlflowServer:
    """`mlflow server` over a database; `stop` kills it, `start` brings it back at the same port."""

    def __init__(self, store, folder, port=None):
        self.port = port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        self._command += ["--workers", "1", "--backend-store-uri", store]
        self._command += ["--artifacts-destination", str(folder / "server-artifacts")]
        self._log = folder / "mlflow-server.log"

    def start(self):
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=environment, start_new_session=True, stdout=log, stderr=log
            )
        wait_for(self._answers, process=self.process, told=lambda: self._log.read_text()[-3000:], pause_s=0.2)
        return self

    def _answers(self):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{self.uri}/health", timeout=10).close()
            return self.process.poll() is None  # and not somebody else's at this port

    def stop(self, number=signal.SIGKILL):
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            self.process.wait()
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


@contextlib.contextmanager
def google_storage(folder, bucket):
    """Google Cloud Storage's interface on loopback with a bucket; its port, and a file of credentials for it."""
    port = free_port()
    credentials = Path(folder) / "credentials.json"
    told = {"client_id": "me", "client_secret": "planted-secret", "refresh_token": "planted-secret"}
    told |= {"type": "authorized_user", "token_uri": f"http://127.0.0.1:{port}/token"}
    credentials.write_text(json.dumps(told))
    command = [sys.executable, Path(__file__).with_name("google_storage.py"), str(port), bucket]
    with (Path(folder) / "google_storage.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: _listens(port), process=process, told=lambda: Path(log.name).read_text()[-3000:])
        yield port, credentials
    finally:
        process.kill()
        process.wait()


def _listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10):
        return True


def postgres_programs():
    """The folder of PostgreSQL's programs, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    return found[-1].parent if found else None


class Postgres:
    """A PostgreSQL of its own on a loopback port, with a password; skips where there is none.

    It has the databases `mlflow`, which `uri` names, and `optuna`: each wants one of its own, for alembic's table.
    """

    def __init__(self, folder):
        pytest.importorskip("psycopg", reason="needs psycopg")
        programs = postgres_programs()
        if programs is None:
            pytest.skip("needs PostgreSQL (apt-get install postgresql)")
        self._user, self._options = getpass.getuser(), {}
        if os.geteuid() == 0:  # it refuses to run as root
            try:
                pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("needs a user `postgres` when run as root")
            self._options, self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}, "postgres"
        self.port, self.process = free_port(), None
        self.uri = f"postgresql://{self._user}:planted-secret@127.0.0.1:{self.port}/mlflow"
        data = Path(folder) / "postgres"
        data.mkdir()
        if self._options:
            shutil.chown(data, "postgres", "postgres")
            for parent in data.parents:  # pytest's folders are closed to others
                if parent.stat().st_uid == os.geteuid() and parent.stat().st_mode & 0o001 == 0:
                    parent.chmod(parent.stat().st_mode | 0o011)
        secret = data / "password"
        secret.write_text("planted-secret")
        secret.chmod(0o644)
        self._options |= {"cwd": data, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [programs / "initdb", "-D", data / "cluster", "-U", self._user, "-A", "scram-sha-256"]
        subprocess.run([*command, f"--pwfile={secret}", "-E", "UTF8", "--no-sync"], check=True, **self._options)
        self._command = [programs / "postgres", "-D", data / "cluster", "-p", str(self.port)]
        self._command += ["-h", "127.0.0.1", "-k", data]

    def start(self):
        import psycopg

        self.process = subprocess.Popen(self._command, **self._options)
        address = {"host": "127.0.0.1", "port": self.port, "user": self._user, "password": "planted-secret"}

        def is_up():
            with contextlib.suppress(psycopg.OperationalError):
                with psycopg.connect(dbname="postgres", autocommit=True, **address) as connection:
                    for name in ("mlflow", "optuna"):
                        with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                            connection.execute(f"CREATE DATABASE {name}")
                return True

        wait_for(is_up, process=self.process)  # after a SIGKILL it recovers first
        return self

    def stop(self, number=signal.SIGKILL):
        """SIGKILL to it and its children leaves it to recover at its next start; SIGINT is its fast shutdown."""
        if self.process is not None:
            family = []
            if number == signal.SIGKILL and self.process.poll() is None:
                family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(number)
            for child in family:  # each has a session of its own, and holds on to the memory that a new start wants
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop(signal.SIGINT)


@contextlib.contextmanager
def postgres(folder):
    """Yields the URI of a running PostgreSQL's database `mlflow`."""
    with Postgres(folder) as server:
        yield server.uri
