"""The head's MLflow as `node.sh ledger` starts it: on loopback, over a folder that outlives it, with a password."""

import base64
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def node(tmp_path):
    """Runs a command of node.sh; the ledger is ended in any case."""
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "L2T_VENV": sys.prefix,
        "L2T_PORT": str(free_port()),
        "MLFLOW_TRACKING_URI": "http://192.0.2.1:5000",  # must not send the server to another
    }

    def run(command, **settings):
        found = subprocess.run(
            [ROOT / "clusters" / "node.sh", command],
            env={**environment, **settings},
            capture_output=True,
            text=True,
            timeout=1000,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        return f"http://127.0.0.1:{environment['L2T_PORT']}"

    yield run
    run("ledger-stop")


def ask(url, user=None):
    request = urllib.request.Request(url)
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=240) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_ledger_is_kept_when_its_server_ends_and_starting_it_twice_is_once(node, tmp_path):
    from mlflow.tracking import MlflowClient

    address = node("ledger")
    pid = (tmp_path / "l2t-kept" / "mlflow.pid").read_text()
    assert node("ledger") == address
    assert (tmp_path / "l2t-kept" / "mlflow.pid").read_text() == pid
    client = MlflowClient(address)
    run = client.create_run("0")
    client.log_text(run.info.run_id, "kept", "note.txt")
    node("ledger-stop")
    with pytest.raises(OSError):  # noqa: PT011 (refused, in the words of the system)
        urllib.request.urlopen(address, timeout=5)
    command_lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in command_lines if str(tmp_path / "l2t-kept").encode() in line]
    node("ledger")
    assert client.get_run(run.info.run_id).info.experiment_id == "0"
    assert (tmp_path / "l2t-kept" / "artifacts").exists()


def test_mlflow_with_a_password_lets_nobody_in_without_it(node, tmp_path):
    pytest.importorskip("flask_wtf", reason="needs mlflow[auth]")
    address = node("ledger", MLFLOW_AUTH_ADMIN_PASSWORD="planted-secret-of-12")
    page = f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert ask(page) == 401
    assert ask(page, "admin:password1234") == 401
    assert ask(page, "admin:planted-secret-of-12") == 200
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"planted-secret-of-12" not in file.read_bytes(), file
