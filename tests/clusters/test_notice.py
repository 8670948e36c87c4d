"""A cloud's notice that a spot machine will be taken, over real HTTP; with a real Ray in test_onprem.py."""

import contextlib
import http.server
import os
import subprocess
import sys
import threading
import time

import pytest

from l2t_ray.launch.worker import preemption
from tests.support.places import ROOT


class Metadata(http.server.BaseHTTPRequestHandler):
    """Both clouds' metadata services, as far as they are asked."""

    taken = False
    cloud = "aws"

    def answer(self, text, code=200):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        known = self.cloud == "aws" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer("a-token" if known else "", 200 if known else 404)

    def do_GET(self):
        if self.path == "/latest/meta-data/spot/instance-action" and self.cloud == "aws":
            assert self.headers["X-aws-ec2-metadata-token"] == "a-token"
            self.answer('{"action": "terminate"}' if self.taken else "", 200 if self.taken else 404)
        elif self.path == "/computeMetadata/v1/instance/preempted" and self.cloud == "gcp":
            assert self.headers["Metadata-Flavor"] == "Google"
            self.answer("TRUE" if self.taken else "FALSE")
        else:
            self.answer("", 404)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def metadata(cloud):
    handler = type("Handler", (Metadata,), {"cloud": cloud})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def start(address, tmp_path):
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "RAY_TMPDIR": str(tmp_path)}
    settings.pop("RAY_ADDRESS", None)
    command = [sys.executable, ROOT / "clusters" / "notice.py", "--aws", address, "--gcp", address]
    return subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_the_trainings_of_a_machine_that_will_be_taken_know_it(cloud, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    watch = preemption.Watch()
    with metadata(cloud) as (service, address):
        process = start(address, tmp_path)
        time.sleep(1.0)
        assert process.poll() is None
        assert not watch.is_urgent()
        service.taken = True
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "is about to be taken" in told
    assert "no Ray runs here" in told
    assert watch.is_urgent()
    assert not watch.is_urgent()  # a checkpoint was just written
    monkeypatch.setattr(preemption, "EVERY_S", 0.0)
    assert watch.is_urgent()
    os.utime(preemption.file(), (0, 0))  # long ago: the machine is still here
    assert not watch.is_urgent()


def test_a_machine_of_no_cloud_is_not_watched(tmp_path):
    process = start("http://127.0.0.1:9", tmp_path)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert not (tmp_path / ".l2t_notice").exists()
    assert "no cloud's metadata service answers" in told
