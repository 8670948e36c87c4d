"""sweeps/first_real.yaml in a smaller form, on some of the photos of ../shared."""

import tarfile
from pathlib import Path

import pytest

from l2t_ray import pretrain, sweep
from tests.support.launches import call
from tests.support.places import ROOT, SHARED

PHOTOS = SHARED / "data" / "cifar10-jpeg.tar"
SMALLER = {  # in both files
    "samples_per_class: 100": "samples_per_class: 3",
    "samples_per_class: 10}": "samples_per_class: 2}",
    "epochs: 5, batch_size: 32": "epochs: 1, batch_size: 15",
    "epochs: 8, batch_size: 25": "epochs: 1, batch_size: 10",
    "{from: 0, to: 1}": "0",
}


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_file(), reason="needs ../shared/data/cifar10-jpeg.tar")
def test_the_first_sweep_of_photos_trains_every_cell(tmp_path, monkeypatch):
    """Nine cells of two networks and two data sets, and the source before them; four photos of each class."""
    monkeypatch.chdir(tmp_path)
    Path("sweeps").mkdir()
    with tarfile.open(PHOTOS) as archive, tarfile.open("photos.tar", "w") as some:
        for member in archive:
            if Path(member.name).stem in {"0000", "0001", "0002", "0003"}:
                some.addfile(member, archive.extractfile(member))
    Path("data").mkdir()
    Path("photos.tar").rename("data/cifar10-jpeg.tar")
    left = dict(SMALLER)
    for name in ("first_real", "first_real_source"):
        text = (ROOT / "sweeps" / f"{name}.yaml").read_text()
        for old in [old for old in left if old in text]:
            text = text.replace(old, left.pop(old))
        Path("sweeps", f"{name}.yaml").write_text(text)
    assert not left
    code, _, err = call(pretrain.main, "sweeps/first_real_source.yaml")
    assert code == 0, err
    code, _, err = call(sweep.main, "sweeps/first_real.yaml", "--backend", "inline")
    assert code == 0, err
    assert "9 finished" in call(sweep.main, "sweeps/first_real.yaml", "--plan")[2]
