"""One pack in a worker: resumed bitwise, its failures in one line."""

import pickle
import threading
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
import torch

from l2t_ray import __version__, registry
from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.launch.cluster.trainable import PackFailedError, PackTrainable
from l2t_ray.launch.worker import preemption
from l2t_ray.launch.worker.job import Work, encode
from l2t_ray.launch.worker.train import StoppedError, describe, train_pack
from l2t_ray.training import checkpoint
from l2t_ray.training.device import is_of_machine, is_out_of_memory
from l2t_ray.training.storage import Remote

registry.load()
TINY = {
    "data": {"name": "digits", "samples_per_class": 4},
    "method": "scratch",
    "target": {"width": 0.125},
    "training": {"epochs": 4, "batch_size": 16},
    "record": {"evaluations": 4},
}


def make_run(seed, **settings):
    return Run.model_validate({**TINY, "seed": seed, **settings})


@pytest.fixture(autouse=True)
def keep_the_place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # a worker goes where the launch was started
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def work(tmp_path):
    return Work(str(tmp_path), str(tmp_path / "it's" / "checkpoints"), str(tmp_path / "data"), checkpoint_s=0.0)


def train(work, runs, stop_after=None):
    seen = []

    def watch(epoch, epochs):
        seen.append(epoch)

    outcomes = train_pack(work, encode(runs), watch, lambda: seen[-1] == stop_after)
    return [(outcome["key"], outcome["status"], outcome["metrics"]) for outcome in outcomes]


MINE = """
from dataclasses import dataclass
from l2t_ray.methods import Method
from l2t_ray.registry import register

@dataclass(frozen=True)
class Mine(Method):
    def loss(self, extra, batch, options):
        return @FACTOR * batch.logits.square().mean()

register(Mine("mine", uses=frozenset({"transfer.beta"})))
"""


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A function: writes the file of a method with a factor, and returns its path; in a process it is read once."""
    monkeypatch.setattr(registry, "METHODS", {**registry.METHODS})
    monkeypatch.setattr(registry, "CODE", {})

    def write(factor):
        file = tmp_path / str(factor) / "mine.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(MINE.replace("@FACTOR", str(factor)))
        registry.load([file])
        return str(file)

    return write


def test_a_checkpoint_of_an_edited_method_is_begun_anew_with_one_line(work, edited, caplog, tmp_path):
    old = replace(work, methods=(edited(0.01),))
    runs = [make_run(seed, method="mine") for seed in (0, 1)]
    for epochs in (1, 3):  # two checkpoints of each, of which the older must not win either
        with pytest.raises(StoppedError):
            train(old, runs, stop_after=epochs)
    new = replace(work, methods=(edited(1.0),))
    undisturbed = train(replace(new, checkpoints=str(tmp_path / "others")), runs)
    assert not caplog.messages
    with pytest.raises(StoppedError):
        train(new, runs, stop_after=1)
    (told,) = caplog.messages
    assert told.startswith("digits, 4 images a class, mine, seed 0 and 1 run more: trained anew, the checkpoint is of")
    assert f"(mine.py {runs[0].code['mine.py']}, now " not in told  # the code of now stands second
    assert f", now {runs[0].code['mine.py']})" in told
    state = checkpoint.load_state(new.checkpoint(runs[0].key))
    assert (state["epoch"], state["code"]) == (1, {"l2t-ray": __version__, **runs[0].code})
    assert train(new, runs) == undisturbed  # from that one, not from epoch 3 of the older code
    assert len(caplog.messages) == 1


def test_a_checkpoint_of_another_version_is_begun_anew_and_one_that_does_not_tell_is_not(work, monkeypatch, caplog):
    run = make_run(0)
    with pytest.raises(StoppedError):
        train(work, [run], stop_after=2)
    monkeypatch.setattr("l2t_ray.launch.worker.transfer.__version__", "99.0")
    seen = []
    train_pack(work, encode([run]), lambda epoch, _: seen.append(epoch))
    assert seen == [0, 1, 2, 3, 4]
    assert caplog.messages[0].endswith(
        f"trained anew, the checkpoint is of other code (l2t-ray {__version__}, now 99.0)"
    )
    content = checkpoint.load_state(work.checkpoint(run.key))
    content.pop("code")
    checkpoint.save_state(work.checkpoint(run.key), content)
    seen.clear()
    train_pack(work, encode([run]), lambda epoch, _: seen.append(epoch))
    assert seen[0] == content["epoch"]
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("n_runs", [1, 2])
def test_a_stopped_pack_goes_on_bitwise_where_it_was(work, n_runs):
    runs = [make_run(seed) for seed in range(n_runs)]
    undisturbed = train(work, runs)
    for run in runs:
        checkpoint.remove_state(work.checkpoint(run.key))
    with pytest.raises(StoppedError):
        train(work, runs, stop_after=2)
    assert {checkpoint.load_file(work.checkpoint(run.key))["epoch"] for run in runs} == {2}
    assert train(work, runs) == undisturbed


def test_a_truncated_checkpoint_costs_time_and_no_bit(work):
    runs = [make_run(0)]
    undisturbed = train(work, runs)
    path = work.checkpoint(runs[0].key)
    checkpoint.remove_state(path)
    with pytest.raises(StoppedError):
        train(work, runs, stop_after=2)
    path.write_bytes(path.read_bytes()[:-1000])
    assert checkpoint.load_state(path)["epoch"] == 1  # the first is due at once; stopping wrote the second
    assert train(work, runs) == undisturbed
    for file in (path, checkpoint.previous(path)):
        file.write_bytes(b"nonsense")
    assert train(work, runs) == undisturbed


def test_a_machine_that_is_about_to_go_writes_a_checkpoint_before_one_is_due(work, tmp_path, monkeypatch):
    monkeypatch.setenv(preemption.PATH, str(tmp_path / "notice"))
    monkeypatch.setattr(preemption, "EVERY_S", 0.0)
    (run,) = [make_run(0)]
    seldom = replace(work, checkpoint_s=3600.0)
    train(seldom, [run])
    assert not work.checkpoint(run.key).exists()
    preemption.announce()
    train(seldom, [run])
    assert checkpoint.load_file(work.checkpoint(run.key))["epoch"] == 3  # the last but one


def test_a_place_that_takes_no_checkpoint_costs_the_checkpoint_alone(work, tmp_path, caplog):
    (tmp_path / "it's").write_text("a file where a folder is needed")
    ((_, status, _),) = train(work, [make_run(0)])
    assert status == "finished"
    assert "no checkpoint was written, the training goes on" in caplog.text


def test_a_store_that_is_silent_for_a_moment_does_not_make_a_run_begin_anew(monkeypatch, tmp_path):
    checkpoint.save_state(tmp_path / "run.ckpt", {"epoch": 3})
    content, answers = (tmp_path / "run.ckpt").read_bytes(), []

    def read_bytes(self):
        if isinstance(answer := answers.pop(0), OSError):
            raise answer
        return answer

    monkeypatch.setattr(Remote, "read_bytes", read_bytes)
    monkeypatch.setattr(checkpoint, "READ_PAUSE_S", 0.0)
    file = Remote("s3://bucket", PurePosixPath("bucket/run.ckpt"))
    answers += [OSError("no answer"), OSError("no answer"), content, FileNotFoundError()]
    assert checkpoint.load_state(file)["epoch"] == 3
    answers[:] = [FileNotFoundError(), FileNotFoundError()]
    assert checkpoint.load_state(file) is None
    answers[:] = [OSError("no answer")] * checkpoint.READ_TRIES
    with pytest.raises(OSError, match="no answer"):
        checkpoint.load_state(file)


def test_tune_sees_progress_and_then_the_outcomes(work):
    runs = [make_run(0)]
    trainable = PackTrainable.__new__(PackTrainable)  # Tune's constructor wants a cluster's storage
    text = work.to_json().replace('"report_s": 2.0', '"report_s": 0.05')
    trainable.setup({"work": text, "pack": encode(runs), "share": {"threads": 1, "fraction": 1.0, "compiled": False}})
    results = [trainable.step()]
    while "done" not in results[-1]:
        results.append(trainable.step())
    assert all(set(result) == {"epoch", "epochs"} for result in results[:-1])
    assert results[-1]["done"] is True
    assert runs[0].key in results[-1]["outcomes"]
    trainable.cleanup()


def test_the_packs_of_a_process_are_trained_in_one_thread(work, monkeypatch):
    """Which keeps what cuDNN has measured of a shape."""
    seen = []
    monkeypatch.setattr(
        "l2t_ray.launch.cluster.trainable.train_pack", lambda *_: seen.append(threading.get_ident()) or []
    )
    for _ in range(2):
        trainable = PackTrainable.__new__(PackTrainable)
        share = {"threads": 1, "fraction": 1.0, "compiled": False}
        trainable.setup({"work": work.to_json(), "pack": encode([make_run(0)]), "share": share})
        assert trainable.step()["done"] is True
    assert len(seen) == 2
    assert len({*seen, threading.get_ident()}) == 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("shapes differ"), False),
    ],
    ids=repr,
)
def test_shortage_of_memory_is_told_from_other_errors_also_by_the_driver(error, expected):
    assert is_out_of_memory(error) is expected
    told = pickle.loads(pickle.dumps(PackFailedError("why", hopeless=not expected, memory=expected)))
    assert (told.reason, told.hopeless, told.memory) == ("why", not expected, expected)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), True),
        (ConnectionResetError(), True),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA error"), False),
    ],
    ids=repr,
)
def test_errors_of_the_machine_are_told_from_those_of_the_code(error, expected):
    assert is_of_machine(error) is expected
    told = pickle.loads(pickle.dumps(PackFailedError("why", machine=expected, trace="all lines")))
    assert (told.reason, told.machine, told.trace) == ("why", expected, "all lines")


def test_a_failure_is_one_line_with_its_place():
    def inner():
        raise ValueError("boom\nand more")

    with pytest.raises(ValueError, match="boom") as caught:
        inner()
    line = caught.value.__traceback__.tb_next.tb_lineno
    assert describe(caught.value) == f"ValueError: boom and more (test_trainable.py:{line} in inner)"
    assert describe(InputError(["a", "b"])) == "a; b"
