"""Real servers on loopback for tests: MLflow's, and PostgreSQL from the distribution's package."""

import contextlib
import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


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

    def start(self, wait_s=120):
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=environment, start_new_session=True, stdout=log, stderr=log
            )
        end = time.monotonic() + wait_s
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return self
            assert self.process.poll() is None, self._log.read_text()[-3000:]
            time.sleep(0.2)
        raise AssertionError(f"MLflow's server did not start in {wait_s} s: {self._log.read_text()[-3000:]}")

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


def postgres_programs():
    """The folder of PostgreSQL's programs, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgres(folder):
    """A PostgreSQL of its own on a loopback port, with a password; skips where there is none.

    Yields the URI of the database `mlflow`; there is `optuna` too.
    """
    psycopg = pytest.importorskip("psycopg", reason="needs psycopg")
    programs = postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL (apt-get install postgresql)")
    user, options = getpass.getuser(), {}
    if os.geteuid() == 0:  # it refuses to run as root
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("needs a user `postgres` when run as root")
        options, user = {"user": "postgres", "group": "postgres", "extra_groups": []}, "postgres"
    data = Path(folder) / "postgres"
    data.mkdir()
    if options:
        shutil.chown(data, "postgres", "postgres")
        for parent in data.parents:  # pytest's folders are closed to others
            if parent.stat().st_uid == os.geteuid() and parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o011)
    secret = data / "password"
    secret.write_text("planted-secret")
    secret.chmod(0o644)
    options |= {"cwd": data, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [programs / "initdb", "-D", data / "cluster", "-U", user, "-A", "scram-sha-256", f"--pwfile={secret}"]
    subprocess.run([*command, "-E", "UTF8", "--no-sync"], check=True, **options)
    port = free_port()
    server = subprocess.Popen(
        [programs / "postgres", "-D", data / "cluster", "-p", str(port), "-h", "127.0.0.1", "-k", data], **options
    )
    try:
        for attempt in range(100):
            try:
                arguments = {"host": "127.0.0.1", "port": port, "user": user, "password": "planted-secret"}
                with psycopg.connect(dbname="postgres", autocommit=True, **arguments) as connection:
                    for name in ("mlflow", "optuna"):  # each wants a database of its own: both have alembic's table
                        connection.execute(f"CREATE DATABASE {name}")
                break
            except psycopg.OperationalError:
                assert attempt < 99, "PostgreSQL did not start in 20 s"
                time.sleep(0.2)
        yield f"postgresql://{user}:planted-secret@127.0.0.1:{port}/mlflow"
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown
        server.wait(30)
