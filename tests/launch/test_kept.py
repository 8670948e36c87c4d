"""The room that kept networks and predictions take, as the plan says it."""

import itertools

import pytest
import torch

from l2t_ray import registry
from l2t_ray.config import Data, Record, Run, Target
from l2t_ray.launch.kept import kept_bytes, kept_text, predictions_bytes
from l2t_ray.training.kept import predictions_file
from tests.support.image_files import animals, write_folder

CIFAR10 = Data(name="cifar10", samples_per_class=10)


def runs(n, data=CIFAR10, **record):
    registry.load()
    return [Run(data=data, method="scratch", seed=seed, target=Target(), record=Record(**record)) for seed in range(n)]


def test_the_plan_says_what_is_kept():
    keeping = runs(3, weights="last", predictions=True)
    # VGG-9 of the thesis: 3 x 3 kernels of (3, 64, 128, 256, 256, 512, 512, 512, 512) maps, batch norms, 512 x 10 + 10
    maps = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    parameters = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(maps)) + 512 * 10 + 10
    assert kept_bytes(keeping) == {
        "target.safetensors": (3, 3 * 4 * parameters),
        "predictions.parquet": (3, 3 * predictions_bytes(10_000, 10)),
    }
    assert "predictions.parquet of 3 runs, about 0.6 MB each" in kept_text(keeping)
    assert kept_text(runs(3)) == ""


@pytest.mark.parametrize(("n_images", "n_classes"), [(6, 2), (100, 10), (1000, 100), (10_000, 10)])
def test_predictions_take_the_room_of_the_file(n_images, n_classes):
    draws = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(n_images, n_classes, generator=draws)
    labels = torch.randint(0, n_classes, (n_images,), generator=draws)
    content = predictions_file(logits, labels, [str(number) for number in range(n_classes)])
    assert predictions_bytes(n_images, n_classes) == pytest.approx(len(content), rel=0.1)


def test_images_of_a_folder_are_counted(tmp_path):
    folder = write_folder(tmp_path / "animals", animals(n_test=3))  # of each of two classes
    data = Data(name="image_folder", path=str(folder), samples_per_class=1)
    keeping = runs(5, data, predictions=True)
    assert kept_bytes(keeping) == {"predictions.parquet": (5, 5 * predictions_bytes(6, 2))}
    each = "predictions.parquet of 5 runs, about 1.4 kB each"  # 4 columns of 330 bytes, 6 x 2 numbers of 4.3
    assert kept_text(keeping) == f"kept: {each}; 6.9 kB in the ledger's artifacts"


def test_a_folder_that_cannot_be_read_has_no_room_told(tmp_path):
    data = Data(name="image_folder", path=str(tmp_path / "gone"), samples_per_class=1)
    assert kept_text(runs(2, data, predictions=True)) == "kept: predictions.parquet of 2 runs"
