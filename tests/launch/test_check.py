"""What a launch checks before it writes: nothing that is finished is lost to a launch that is refused."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from analysis.results.runs import read_results
from l2t_ray import sweep
from l2t_ray.launch import check as checking
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import Ended, Record
from l2t_ray.sweepfile.read import read_sweep
from tests.support.image_files import animals, write_folder
from tests.support.launches import call

pytestmark = pytest.mark.usefixtures("no_ray")  # a running one would be taken whatever the address

FILE = """
sweep: pets
run:
  data: {name: image_folder, path: FOLDER, samples_per_class: 1}
  target: {width: 0.125}
  training: {epochs: 2, batch_size: 16}
grid:
  - {method: scratch, seed: {from: 0, to: 9}}
MORE
"""
METHOD = """
from dataclasses import dataclass
from l2t_ray.methods import Method, Stage
from l2t_ray.registry import register

@dataclass(frozen=True)
class Wrong(Method):
    def stage(self, progress, options):
        return Stage(classification=1) if progress < 0.5 else Stage(classification=0)

    def loss(self, extra, batch, options):
        if batch.progress >= SINCE:
            raise KeyError("a level that does not exist")
        return batch.logits.sum() * 0

register(Wrong("wrong", uses=frozenset({"transfer.beta"})))
"""


def write(folder="pets", more="", head=""):
    Path("pets.yaml").write_text(head + FILE.replace("FOLDER", folder).replace("MORE", more))


def finish_all():
    """Spools a result for every run of the sweep; the next launch writes them."""
    found, spool = read_sweep(Path("pets.yaml")), Ledger("pets").spool
    for key, run in found.runs.items():
        ended = Ended(key, "finished", metrics={"test_accuracy_percent": [(2, 50.0 + run.seed)]})
        spool.put(Record.of(run, ended, "pets", found.cells[key], data_sha="", tags={}))


@pytest.fixture
def finished(folder, template):
    """A folder of pets whose sweep of ten runs is finished."""
    shutil.copy(template, folder / "mlflow.db")
    write_folder(folder / "pets", animals())
    write()
    finish_all()
    assert call(sweep.main, "pets.yaml")[0] == 0
    return folder


def counts():
    results = read_results(["pets"])
    return len(results.runs), len(results.wanted)


@pytest.mark.parametrize(
    ("spoil", "arguments", "told"),
    [
        pytest.param(lambda: Path("pets/train/cat/bad.png").write_bytes(b"no image"), [], "bad.png", id="an image"),
        pytest.param(lambda: None, ["--set", "data.samples_per_class=4"], "samples_per_class must be <= 3", id="--set"),
        pytest.param(
            lambda: Path("pets/train/cat/new.png").write_bytes(animals()["train/dog/0.png"]),
            ["--address", "no address"],
            "--address",
            id="a cluster that is not there",
        ),
    ],
)
def test_what_is_finished_stays_reported_when_a_later_launch_is_refused(finished, spoil, arguments, told):
    assert counts() == (10, 10)
    spoil()
    code, out, err = call(sweep.main, "pets.yaml", *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert counts() == (10, 10)


def test_plan_and_status_tell_of_finished_runs_of_other_images(finished):
    told = "pets: 10 finished runs in the ledger are of other settings, images, weights or trainers than this file's"
    for asked in ("--plan", "--status"):
        assert told not in call(sweep.main, "pets.yaml", asked)[2]
    Path("pets/train/cat/bad.png").write_bytes(b"no image")
    for asked in ("--plan", "--status"):
        assert told in call(sweep.main, "pets.yaml", asked)[2]


def test_every_bad_file_of_all_folders_is_told_in_one_go(folder):
    bad = []
    for name, n_train in (("cats", 3), ("dogs", 4)):
        write_folder(folder / name, animals(n_train))
        for number in range(2):
            bad.append(f"{name}: train/cat/bad{number}.png must be an image that can be decoded")
            (folder / name / f"train/cat/bad{number}.png").write_bytes(b"no image")
    write("cats", more="  - {method: scratch, seed: 0, data: {path: dogs}}")
    code, out, err = call(sweep.main, "pets.yaml", "--check")
    assert (code, out) == (2, "")
    assert all(name in err for name in bad)
    assert not (folder / "mlflow.db").exists()


@pytest.mark.parametrize("since", ["0.0", "0.5"], ids=["first stage", "last stage"])
def test_a_method_that_cannot_train_a_batch_is_refused(folder, since):
    write_folder(folder / "pets", animals())
    (folder / "mine.py").write_text(METHOD.replace("SINCE", since))
    write(more="  - {method: wrong, seed: {from: 0, to: 3}}", head="methods: [mine.py]\n")
    for arguments in (["--check"], []):
        code, _, err = call(sweep.main, "pets.yaml", *arguments)
        told = "method wrong: must train a batch of image_folder, got KeyError: 'a level that does not exist' (mine.py:"
        assert code == 2
        assert err.count(told) == 1
        assert not (folder / "mlflow.db").exists()


def test_a_method_that_cannot_train_on_mixtures_is_refused(folder):
    write_folder(folder / "pets", animals())
    loss = "return batch.logits.gather(1, batch.labels[:, None]).mean()"
    lines = METHOD.replace("if batch.progress >= SINCE:", loss).replace(
        'raise KeyError("a level that does not exist")', ""
    )
    (folder / "mine.py").write_text(lines.replace('"wrong"', '"picks"'))
    write(more="  - {method: picks, seed: 0}", head="methods: [mine.py]\n")
    assert call(sweep.main, "pets.yaml", "--check")[0] == 0
    code, _, err = call(sweep.main, "pets.yaml", "--check", "--set", "augment.mixup=0.2")
    assert code == 2
    assert err.count("method picks: must train a batch of image_folder, got ") == 1


def test_a_check_says_what_it_has_found_and_starts_nothing(folder):
    write_folder(folder / "pets", animals())
    write()
    code, out, _ = call(sweep.main, "pets.yaml", "--check")
    assert code == 0
    assert out.splitlines() == [
        "pets: 6 training and 4 test images of 2 classes",
        "  sizes: all 32 x 32",
        "  width / height: 1 to 1, median 1",
        "  modes: RGB 10",
        "  WARNING: 4 test images are training images, too: train/cat/0.png = test/cat/0.png; "
        "train/cat/1.png = test/cat/1.png; train/dog/0.png = test/dog/0.png; train/dog/1.png = test/dog/1.png",
        "  classes with fewer than 5 training images: cat (3), dog (3)",
        "pets: 10 runs checked: all images and weights can be read, every method trains",
    ]
    assert not (folder / "mlflow.db").exists()


def test_two_answers_at_once_are_refused(folder, capsys):
    with pytest.raises(SystemExit):
        sweep.main(["pets.yaml", "--check", "--plan"])
    assert "--plan and --check are 2 answers; ask for one of them" in capsys.readouterr().err


def test_a_disk_without_room_for_the_checkpoints_is_refused(folder, monkeypatch):
    write_folder(folder / "pets", animals())
    write()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checking.shutil, "disk_usage", lambda place: usage(1 << 40, 0, 1 << 20))
    code, _, err = call(sweep.main, "pets.yaml", "--check")
    assert code == 2
    assert "the disk must have room for" in err
    assert "got 1 MiB; free some, or set execution.storage" in err


@pytest.mark.usefixtures("folder")
def test_predictions_by_untrained_running_statistics_are_told():
    """Two epochs of one step; torchvision's MobileNetV3 moves its batch norm's statistics by 0.01 a step."""
    write_folder(Path("pets"), animals())
    write()
    assert "running statistics" not in call(sweep.main, "pets.yaml", "--check", "--set", "training.epochs=30")[2]
    text = Path("pets.yaml").read_text().replace("{width: 0.125}", "{arch: mobilenet_v3_small}")
    Path("pets.yaml").write_text(text)
    code, _, err = call(sweep.main, "pets.yaml", "--check")
    assert code == 0, err
    told = "mobilenet_v3_small: after 2 steps its batch norm's running statistics are still 98 % initial values"
    assert told in err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("batch_size", "code"), [(2, 2), (16, 0)], ids=["leaves one image", "leaves three"])
def test_a_last_batch_of_one_image_is_refused_where_batch_norm_cannot_take_it(batch_size, code):
    """At 32 pixels the last maps of a ResNet-18 are 1 x 1; every run ended in a division by zero."""
    write_folder(Path("pets"), animals())
    write()
    text = Path("pets.yaml").read_text().replace("{width: 0.125}", "{arch: resnet18}")
    Path("pets.yaml").write_text(text.replace("samples_per_class: 1", "samples_per_class: {cat: 2, dog: 1}"))
    found, _, err = call(sweep.main, "pets.yaml", "--check", "--set", f"training.batch_size={batch_size}")
    assert found == code, err
    assert ("training.batch_size must leave two images or more to the last batch" in err) == (code == 2)


@pytest.mark.usefixtures("folder")
def test_tf32_on_a_cpu_is_told_and_trains(monkeypatch):
    write_folder(Path("pets"), animals())
    write()
    told = "pets: training.precision: tf32 is float32 on a CPU, bit for bit, under other keys (10 runs)"
    tf32 = ["pets.yaml", "--set", "training.precision=tf32"]
    assert told in call(sweep.main, *tf32, "--check")[2].splitlines()
    assert "tf32" not in call(sweep.main, "pets.yaml", "--check")[2]
    code, _, err = call(sweep.main, *tf32, "--where", "seed=0", "--backend", "inline")
    assert (code, err.count("tf32 is float32 on a CPU, bit for bit, under other keys (1 run)")) == (0, 1)
    monkeypatch.setattr("l2t_ray.launch.command.n_cards", lambda: 1)
    assert "tf32" not in call(sweep.main, *tf32, "--check")[2]
