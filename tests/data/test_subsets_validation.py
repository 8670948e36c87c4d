"""Validation images: drawn by their own stream, never trained on, measured in the place of the test set."""

from dataclasses import replace

import pytest
import torch

from l2t_ray import registry
from l2t_ray.config import Augment, Data, Record, Run, Target, Training
from l2t_ray.data.load import load_data
from l2t_ray.data.subsets import count_held_out, stratified_subset, validation_subset
from l2t_ray.errors import InputError
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.source_file import read_pretraining
from l2t_ray.training.pack import train

LABELS = torch.arange(300) % 3
NAMES = ("cat", "dog", "emu")
CLASSES = ("0", "1", "2")


def settings(samples=10, held=20, **more):
    return Data(name="digits", samples_per_class=samples, validation_per_class=held, **more)


def run(seed=0, held=None, **settings):
    return Run(
        data=Data(name="digits", classes=CLASSES, samples_per_class=4, validation_per_class=held),
        method="scratch",
        seed=seed,
        target=Target(width=0.1),
        training=Training(epochs=3, batch_size=8, **settings),
        augment=Augment(flip=False),
        record=Record(evaluations=1, per_class=True),
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    registry.load()
    return load_data(Data(name="digits", classes=CLASSES, samples_per_class=4), tmp_path_factory.mktemp("data"))


def test_so_many_of_each_class_are_held_out_and_none_of_them_is_trained_on():
    held = validation_subset(LABELS, NAMES, settings(), seed=0)
    assert LABELS[held].tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert len(set(held.tolist())) == 60
    assert set(held.tolist()).isdisjoint(stratified_subset(LABELS, NAMES, 10, 0).tolist())


def test_the_draw_depends_on_the_seed_and_hardly_on_the_training_images():
    five, ten = (set(validation_subset(LABELS, NAMES, settings(n), 4).tolist()) for n in (5, 10))
    assert five == set(validation_subset(LABELS, NAMES, settings(5), 4).tolist())
    assert len(five & ten) >= 0.8 * len(five)  # all but those that only the larger run trains on
    assert len(five & set(validation_subset(LABELS, NAMES, settings(5), 5).tolist())) < 0.5 * len(five)


def test_every_image_beside_those_trained_on_is_as_likely_as_another():
    """1,000 seeds; 10 of 50 are trained on, 10 of the other 40 held out: 200 each, sd sqrt(1000 * .2 * .8) = 12.6."""
    labels = torch.zeros(50, dtype=torch.int64)
    held = [validation_subset(labels, ("cat",), settings(10, 10), seed) for seed in range(1000)]
    assert ((torch.bincount(torch.cat(held), minlength=50) - 200).abs() < 5 * 12.6).all()


def test_what_a_class_does_not_have_is_refused_with_what_it_has():
    with pytest.raises(InputError, match="<= 10 for class 'dog' of pets, which has 100 training images of which 90"):
        count_held_out(LABELS, NAMES, settings({"dog": 90, "*": 5}, 20), name="pets")


def test_a_run_without_validation_images_has_the_key_it_always_had():
    assert "validation_per_class" not in run().resolved()["data"]
    assert run(held=None).key == "3c8f0e83e166cf59"  # before there were any
    assert run(held=8).key != run(held=9).key != run().key


def test_a_run_is_measured_on_its_validation_images_and_never_on_the_test_set(digits):
    """The same run on data whose test set is those images gives the same figures, alone and in a pack."""
    runs = [run(seed, held=8, precision="float64") for seed in (0, 1)]
    outcomes = train(runs, digits, None, device=torch.device("cpu"))
    for validated, outcome in zip(runs, outcomes, strict=True):
        held = validation_subset(digits.train_labels, digits.classes, validated.data, validated.seed)
        judged = replace(digits, test_images=digits.train_images[held], test_labels=digits.train_labels[held])
        plain = run(validated.seed, precision="float64")
        (expected,) = train([plain], judged, None, device=torch.device("cpu"))
        assert not [name for name in outcome.metrics if name.startswith("test_")]
        assert len(outcome.metrics["validation_accuracy_percent"]) == 2
        for name, values in expected.metrics.items():
            found = outcome.metrics[name.replace("test_", "validation_")]
            assert [epoch for epoch, _ in found] == [epoch for epoch, _ in values]
            assert [value for _, value in found] == pytest.approx([value for _, value in values], rel=1e-9)


def test_a_sweep_file_that_asks_for_too_many_is_refused_at_its_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "sweep: s\ngrid:\n- method: scratch\n  seed: 0\n  data:\n    name: digits\n    samples_per_class: 30\n"
    (tmp_path / "s.yaml").write_text(text + "    validation_per_class: 58\n")
    with pytest.raises(InputError) as caught:
        read_sweep(tmp_path / "s.yaml")
    law = "data.validation_per_class must be <= 57, which digits has beside those trained on, got 58; ask for fewer"
    assert caught.value.problems == (f"{tmp_path / 's.yaml'}:8: {law}",)
    (tmp_path / "s.yaml").write_text(text + "    validation_per_class: 57\n")
    (read,) = read_sweep(tmp_path / "s.yaml").runs.values()
    assert read.data.validation_per_class == 57


def test_a_source_network_has_none(tmp_path):
    (tmp_path / "source.yaml").write_text("out: x.pt\ndata: {name: digits, validation_per_class: 5}\n")
    with pytest.raises(InputError, match="validation_per_class is no setting of a source network; remove it"):
        read_pretraining(tmp_path / "source.yaml", data_dir=tmp_path)
