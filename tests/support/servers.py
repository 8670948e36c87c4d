"""Real servers on loopback: MLflow's, Google's storage, and PostgreSQL from the distribution's package."""

import contextlib
import getpass
import http.client
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.support.ports import free_port
from tests.support.waiting import wait_for

TRIES = 5


class Server:
    """A process that listens on a port of loopback; `start` after `stop` brings it back at the same port."""

    def __init__(self, log):
        self.port, self.process, self._log, self._is_new = free_port(), None, Path(log), True

    def start(self):
        """Returns when it answers; a port that somebody took meanwhile is changed, or waited for where it is known."""
        n_left = TRIES
        while not self._tried(n_left := n_left - 1):
            if self._is_new:
                self.port = free_port()
            else:
                time.sleep(1)
        self._is_new = False
        return self

    def _tried(self, n_left):
        with self._log.open("ab") as log:
            before = log.tell()
            self.process = self._begin(log)

        def told():
            return self._log.read_bytes()[before:].decode(errors="replace")[-3000:]

        def found():
            return "up" if self._answers() else "taken" if n_left and "in use" in told() else None

        try:
            is_up = wait_for(found, process=self.process, told=told, pause_s=0.1) == "up"
        except AssertionError:
            self.stop()
            raise
        if not is_up:
            self.stop()
        return is_up

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class MlflowServer(Server):
    """`mlflow server` over a database; its address is settled when it has started."""

    def __init__(self, store, folder, *flags):
        super().__init__(folder / "mlflow-server.log")
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        self._command += ["--backend-store-uri", store]
        self._command += ["--artifacts-destination", str(folder / "server-artifacts"), *flags]

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    def _begin(self, log):
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [*self._command, "--port", str(self.port)]
        return subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)

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


class GoogleStorage(Server):
    """Google Cloud Storage's interface with a bucket, and a file of credentials for it."""

    def __init__(self, folder, bucket):
        super().__init__(Path(folder) / "google_storage.log")
        self.credentials, self._bucket = Path(folder) / "credentials.json", bucket

    def _begin(self, log):
        told = {"client_id": "me", "client_secret": "planted-secret", "refresh_token": "planted-secret"}
        told |= {"type": "authorized_user", "token_uri": f"http://127.0.0.1:{self.port}/token"}
        self.credentials.write_text(json.dumps(told))
        command = [sys.executable, Path(__file__).with_name("google_storage.py"), str(self.port), self._bucket]
        return subprocess.Popen(command, stdout=log, stderr=log)

    def _answers(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/storage/v1/b/{self._bucket}", timeout=10).close()
            return self.process.poll() is None


def postgres_programs():
    """The folder of PostgreSQL's programs, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    return found[-1].parent if found else None


class Postgres(Server):
    """A PostgreSQL of its own with a password; skips where there is none."""

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
        data = Path(folder) / "postgres"
        data.mkdir()
        super().__init__(data / "log")
        self._n_databases = 0
        if self._options:
            shutil.chown(data, "postgres", "postgres")
            for parent in data.parents:  # pytest's folders are closed to others
                if parent.stat().st_uid == os.geteuid() and parent.stat().st_mode & 0o001 == 0:
                    parent.chmod(parent.stat().st_mode | 0o011)
        secret = data / "password"
        secret.write_text("planted-secret")
        secret.chmod(0o644)
        self._options |= {"cwd": data}
        command = [programs / "initdb", "-D", data / "cluster", "-U", self._user, "-A", "scram-sha-256"]
        command += [f"--pwfile={secret}", "-E", "UTF8", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._options)
        self._command = [programs / "postgres", "-D", data / "cluster", "-h", "127.0.0.1", "-k", data]

    def database(self):
        """Makes an empty database and returns its address; MLflow and Optuna each want one, for alembic's table."""
        self._n_databases += 1
        name = f"ledger{self._n_databases}"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://{self._user}:planted-secret@127.0.0.1:{self.port}/{name}"

    def _begin(self, log):
        return subprocess.Popen([*self._command, "-p", str(self.port)], stdout=log, stderr=log, **self._options)

    def _answers(self):  # after a SIGKILL it recovers first
        import psycopg

        with contextlib.suppress(psycopg.OperationalError), self._connect():
            return True

    def _connect(self):
        import psycopg

        address = {"host": "127.0.0.1", "port": self.port, "user": self._user, "password": "planted-secret"}
        return psycopg.connect(dbname="postgres", autocommit=True, connect_timeout=10, **address)

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

    def __exit__(self, *_):
        self.stop(signal.SIGINT)
