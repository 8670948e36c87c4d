"""A cloud's notice that a spot machine will be taken, over real HTTP; with a real Ray in test_onprem.py."""

import contextlib
import http.server
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray

from l2t_ray.launch.worker import preemption
from tests.clusters.cluster_files import module_of
from tests.support.ports import closed_port
from tests.support.waiting import wait_for


class Metadata(http.server.BaseHTTPRequestHandler):
    """Both clouds' metadata services, as far as they are asked."""

    taken = False
    cloud = "aws"
    n_busy = 0  # questions that are not answered in time, at first
    n_looks = 0

    def answer(self, text, code=200):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        self.be_busy()
        known = self.cloud == "aws" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer("a-token" if known else "", 200 if known else 404)

    def be_busy(self):
        """Answers a first few questions with an error, as a service that is not ready."""
        if self.cloud == ("aws" if self.command == "PUT" else "gcp") and self.n_busy:
            type(self).n_busy -= 1
            self.send_error(503)
            raise ConnectionAbortedError

    def do_GET(self):
        self.be_busy()
        type(self).n_looks += 1
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

    def handle_one_request(self):
        with contextlib.suppress(ConnectionAbortedError):
            super().handle_one_request()


@contextlib.contextmanager
def metadata(cloud):
    handler = type("Handler", (Metadata,), {"cloud": cloud})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def watcher(tmp_path, monkeypatch):
    """clusters/notice.py, in a home and a Ray's folder of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv(preemption.PATH, raising=False)
    module = module_of("notice")
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    return module


@pytest.mark.parametrize("n_busy", [0, 2])
@pytest.mark.parametrize(("cloud", "left_s"), [("aws", 120), ("gcp", 30)])
def test_the_trainings_of_a_machine_that_will_be_taken_know_it(watcher, cloud, left_s, n_busy, monkeypatch, capsys):
    ends, now = [], [0.0]
    monkeypatch.setattr(watcher, "drain", lambda end: ends.append(end) or 0)
    watch = preemption.Watch(now=lambda: now[0])
    with metadata(cloud) as (service, address), ThreadPoolExecutor(1) as pool:
        service.n_busy, begun = n_busy, time.monotonic()
        ended = pool.submit(watcher.main, ["--aws", address, "--gcp", address])
        try:
            wait_for(lambda: service.n_looks >= n_busy + 3 or ended.done())
            assert not ended.done()
            assert not watch.is_urgent()
        finally:
            service.taken = True
        assert ended.result(timeout=240) == 0
    assert "is about to be taken" in capsys.readouterr().err
    assert begun + left_s <= ends[0] <= time.monotonic() + left_s
    assert watch.is_urgent()
    assert not watch.is_urgent()  # a checkpoint was just written
    now[0] += preemption.EVERY_S
    assert watch.is_urgent()
    now[0] += preemption.EVERY_S
    os.utime(preemption.file(), (0, 0))  # long ago: the machine is still here
    assert not watch.is_urgent()


def test_a_service_that_does_not_answer_in_time_is_asked_again(watcher, monkeypatch):
    asked = []

    def refuse_late(request, timeout):
        asked.append(request.full_url)
        raise TimeoutError

    monkeypatch.setattr(watcher.urllib.request, "urlopen", refuse_late)
    monkeypatch.setattr(watcher, "FIND_S", 0.1)
    assert watcher.main([]) == 0
    assert len(asked) > 2


def test_a_machine_of_no_cloud_is_not_watched(watcher, capsys):
    with closed_port() as port:
        assert watcher.main(["--aws", f"http://127.0.0.1:{port}", "--gcp", f"http://127.0.0.1:{port}"]) == 0
    assert not preemption.file().exists()
    assert "no cloud's metadata service answers" in capsys.readouterr().err


def test_no_ray_but_that_of_this_machine_is_told(watcher, tmp_path, monkeypatch, capsys):
    asked = []

    def fail(address, **settings):
        asked.append(address)
        raise RuntimeError("wrong token")

    monkeypatch.setattr(ray, "init", fail)
    assert watcher.drain(time.monotonic()) == 0
    assert "no Ray runs here" in capsys.readouterr().err
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("192.0.2.10:6379\n")  # by `ray start`
    assert watcher.drain(time.monotonic()) == 1
    assert "Ray at 192.0.2.10:6379 must answer, got RuntimeError('wrong token')" in capsys.readouterr().err
    assert asked == ["192.0.2.10:6379"]
