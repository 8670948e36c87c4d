"""Checkpoints in a folder and in object stores: servers of S3 and of Google's on loopback, through the same code."""

from pathlib import Path

import boto3
import pytest
import torch
from moto.server import ThreadedMotoServer

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.launch.checkpoints import prepare_checkpoints
from l2t_ray.launch.worker.job import Work, encode
from l2t_ray.launch.worker.train import StoppedError, train_pack
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.training import checkpoint
from l2t_ray.training.storage import address, files, storage
from tests.support.servers import GoogleStorage

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # moto's server leaves its sockets

registry.load()
TINY = {
    "data": {"name": "digits", "samples_per_class": 4},
    "method": "scratch",
    "target": {"width": 0.125},
    "training": {"epochs": 4, "batch_size": 16},
    "record": {"evaluations": 2},
}


@pytest.fixture(scope="module")
def s3():
    """The address of an S3 server with the bucket `kept`, and boto3's client of it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "planted-secret"}.items():
            patched.setenv(name, value)
        patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        client.create_bucket(Bucket="kept")
        yield f"?region=us-east-1&scheme=http&endpoint_override={host}:{port}", client
    server.stop()


@pytest.fixture(scope="module")
def gs(tmp_path_factory):
    """The address of a server of Google's storage with the bucket `kept`."""
    folder = tmp_path_factory.mktemp("gs")
    with GoogleStorage(folder, "kept") as server, pytest.MonkeyPatch.context() as patched:
        patched.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(server.credentials))
        yield f"?scheme=http&endpoint_override=127.0.0.1:{server.port}&retry_limit_seconds=5"


@pytest.fixture(params=["disk", "s3", "gs"])
def folder(request, tmp_path):
    """A sweep's folder of checkpoints that is not there yet."""
    if request.param == "disk":
        return storage(str(tmp_path / "it's")) / "checkpoints"
    options = request.getfixturevalue("gs") if request.param == "gs" else request.getfixturevalue("s3")[0]
    return storage(f"{request.param}://kept/it's {tmp_path.name}{options}") / "checkpoints"


def state(epoch):
    return {"epoch": epoch, "theta": torch.arange(5.0) / 3 + epoch}


def test_two_states_are_kept_fall_back_and_go(folder):
    file = folder / "0123.ckpt"
    assert checkpoint.load_state(file) is None
    for epoch in (1, 2, 3):
        checkpoint.save_state(file, state(epoch))
    assert sorted(found.name for found in files(folder)) == ["0123.ckpt", "0123.ckpt.previous"]
    assert torch.equal(checkpoint.load_state(file)["theta"], state(3)["theta"])
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert checkpoint.load_state(file)["epoch"] == 2
    file.unlink()
    assert checkpoint.load_state(file)["epoch"] == 2
    checkpoint.remove_state(file)
    checkpoint.remove_state(file)
    assert files(folder) == []


def test_preparing_removes_what_was_left_and_keeps_what_is_needed(folder):
    for key in ("done", "going"):
        for epoch in (1, 2):
            checkpoint.save_state(folder / f"{key}.ckpt", state(epoch))
    (folder / ".going.ckpt.x1y2").write_bytes(b"a part")
    prepare_checkpoints(folder, ["done"])
    assert sorted(found.name for found in files(folder)) == ["going.ckpt", "going.ckpt.previous"]


def test_a_place_travels_as_text_and_comes_back_equal(folder):
    assert storage(address(folder)) == folder
    assert storage(address(folder / "x")) == folder / "x"


@pytest.mark.parametrize("folder", ["s3", "gs"], indirect=True)  # on disk: tests/launch/cluster/test_trainable.py
def test_a_pack_that_was_stopped_goes_on_bitwise_from_the_store(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    n_threads = torch.get_num_threads()
    work = Work(str(tmp_path), address(folder), str(tmp_path / "data"), checkpoint_s=0.0)
    runs = [Run.model_validate({**TINY, "seed": seed}) for seed in range(2)]
    seen = []

    def train(stop_after=None):
        outcomes = train_pack(work, encode(runs), lambda epoch, _: seen.append(epoch), lambda: seen[-1] == stop_after)
        return [outcome["metrics"] for outcome in outcomes]

    with pytest.raises(StoppedError):
        train(stop_after=3)
    kept = [checkpoint.load_file(work.checkpoint(run.key))["epoch"] for run in runs]
    resumed = train()
    for run in runs:
        checkpoint.remove_state(work.checkpoint(run.key))
    undisturbed = train()
    torch.set_num_threads(n_threads)
    assert kept == [3, 3]
    assert resumed == undisturbed


def test_a_bucket_that_is_not_there_is_told_before_anything_starts(s3):
    options, _ = s3
    with pytest.raises(InputError, match=r"s3://missing/x: execution.storage must be a folder that can be written to"):
        prepare_checkpoints(storage(f"s3://missing/x{options}"), [])


def test_no_secret_is_shown_or_taken_from_an_address(s3):
    options, _ = s3
    assert str(storage(f"s3://kept/x{options}")) == "s3://kept/x"
    for text in ("s3://me:planted-secret@kept/x", "s3://kept/x?secret_key=planted-secret"):
        with pytest.raises(InputError, match="without a password") as caught:
            storage(text)
        assert "planted-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ftp://host/x", "got the scheme 'ftp'"),
        ("s3:///x", "got no bucket"),
        ("gs://", "got no bucket"),
        ("s3://kept/x?colour=red", "got options that pyarrow does not take: .*colour"),
    ],
)
def test_an_address_that_is_none_is_refused(text, told):
    with pytest.raises(InputError, match=told):
        storage(text)


def test_a_bucket_of_google_that_is_not_there_is_told_before_anything_starts(gs):
    with pytest.raises(InputError, match=r"gs://missing/x: execution.storage must be a folder that can be written to"):
        prepare_checkpoints(storage(f"gs://missing/x{gs}"), [])


def test_a_sweep_file_with_such_an_address_is_refused_at_its_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = "{data: {name: digits, samples_per_class: 5}, method: scratch, seed: 0}"
    (tmp_path / "x.yaml").write_text(f"sweep: x\ngrid:\n- {run}\nexecution:\n  storage: s3://me:planted-secret@b/x\n")
    with pytest.raises(InputError) as caught:
        read_sweep(Path("x.yaml"))
    assert caught.value.problems[0].startswith("x.yaml:5: execution.storage must be a folder, s3://BUCKET/PREFIX")
    assert "planted-secret" not in str(caught.value)
