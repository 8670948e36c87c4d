"""Weights and their card: whose it is, what is refused, and kills between the two."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from l2t_ray.files import compute_sha256, write_atomic
from l2t_ray.pretrain import main
from l2t_ray.training import pretraining
from tests.support.small_source import SMALL

OUT, CARD = Path(SMALL["out"]), Path("weights/small source's.json")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def launch(tmp_path, monkeypatch, data_dir, template):
    """Runs the command on a training of one epoch in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(template, tmp_path)
    Path("source.yaml").write_text(yaml.safe_dump({**SMALL, "training": {**SMALL["training"], "epochs": 1}}))
    return lambda *arguments: main(["source.yaml", "--data-dir", str(data_dir), *arguments])


@pytest.mark.parametrize(
    ("file", "content", "law"),
    [
        (OUT, b"others", "must hold the weights that"),
        (CARD, b"{", "must not be there, or have the card"),
        (CARD, None, "must not be there, or have the card"),
    ],
    ids=["other-weights", "damaged-card", "no-card"],
)
def test_weights_that_are_not_what_their_card_says_are_kept(launch, capsys, file, content, law):
    assert launch() == 0
    file.unlink() if content is None else file.write_bytes(content)
    before = OUT.read_bytes()
    assert launch() == 2
    assert f"{OUT}: {law}" in capsys.readouterr().err
    assert OUT.read_bytes() == before


def test_a_kill_between_the_card_and_the_weights_costs_no_training(launch, monkeypatch, capsys):
    def write_until_weights(path, content):
        if path == OUT:
            raise KeyboardInterrupt
        write_atomic(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("l2t_ray.launch.worker.source.write_atomic", write_until_weights)
        assert launch() == 1
    assert (CARD.exists(), OUT.exists()) == (True, False)
    capsys.readouterr()
    monkeypatch.setattr(pretraining._Steps, "train_epoch", None)
    assert launch() == 0
    assert compute_sha256(OUT) == json.loads(CARD.read_text())["weights_sha256"]
    assert not [path for path in Path("weights").iterdir() if "checkpoint" in path.name]


def test_a_kill_after_the_weights_leaves_no_checkpoint_for_ever(launch):
    assert launch() == 0
    left = Path(f"{OUT}.checkpoint")
    left.write_bytes(b"left")
    assert launch() == 0
    assert not left.exists()


@pytest.mark.parametrize("out", ["weights/x.json", "weights/x.JSON"])
def test_weights_are_not_written_where_their_card_lies(launch, capsys, out):
    assert launch("--set", f"out={out}") == 2
    told = "out must have another suffix than .json, such as .pt: its card has that name, got"
    assert told in capsys.readouterr().err
    assert not Path("weights").exists()


@pytest.mark.parametrize("is_old", [False, True], ids=["card", "card-of-an-older-version"])
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["plain", "force"])
def test_the_card_of_other_weights_is_kept(launch, capsys, force, is_old):
    assert launch() == 0
    if is_old:
        content = json.loads(CARD.read_text())
        del content["file"]
        CARD.write_text(json.dumps(content))
        assert launch() == 0
    before = CARD.read_bytes()
    other = OUT.with_suffix(".bin")
    for _ in range(2):  # without weights of the name, and with
        assert launch("--set", f"out={other}", *force) == 2
        told = f"{other}: must have a card of its own, got {CARD}, which is that of {OUT}; name another file in `out`"
        assert told in capsys.readouterr().err
        assert CARD.read_bytes() == before
        other.write_bytes(b"others")
    assert other.read_bytes() == b"others"


def test_weights_that_were_moved_with_their_card_are_taken(launch, monkeypatch):
    assert launch() == 0
    OUT.rename("weights/moved.bin")
    CARD.rename("weights/moved.json")
    monkeypatch.setattr("l2t_ray.launch.worker.source.train_source", None)
    assert launch("--set", "out=weights/moved.bin") == 0


@pytest.mark.parametrize("path", [OUT, CARD], ids=["weights", "card"])
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["plain", "force"])
def test_a_folder_in_the_way_is_told_before_the_training(launch, monkeypatch, capsys, path, force):
    monkeypatch.setattr("l2t_ray.launch.worker.source.train_source", None)
    path.mkdir(parents=True)
    assert launch(*force) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"{OUT}: must ")
    assert "got a folder; name another file in `out`" in told
