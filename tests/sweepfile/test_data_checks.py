"""Images and weights that a sweep file names: known by their content."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from l2t_ray.data import digests
from tests.support.places import SHARED
from tests.support.sweepfiles import UFM, changed, grid, keys, problems, read

pytestmark = pytest.mark.usefixtures("sweep_folder")


def images(folder, **n_images):
    for name, count in n_images.items():
        for split in ("train", "test"):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                (folder / split / name / f"{index}.png").write_bytes(f"{split}{name}{index}".encode())


def folder_block(path, samples=2):
    return f"{{data: {{name: image_folder, path: {path}, samples_per_class: {samples}}}, method: scratch, seed: 0}}"


def test_a_folder_and_its_tars_are_the_same_images():
    images(Path("pets"), cat=3, dog=2)
    Path("pets/.DS_Store").touch()
    with tarfile.open("wrapped.tar.gz", "w:gz") as tar:
        tar.add("pets")
    with tarfile.open("bare.tar", "w") as tar:
        for name in ("test", "train"):
            tar.add(f"pets/{name}", name)
    found = {path: read(grid(folder_block(path))) for path in ("pets", "wrapped.tar.gz", "bare.tar")}
    assert len({tuple(sweep.runs) for sweep in found.values()}) == 1
    assert [next(iter(sweep.cells.values())) for sweep in found.values()] == [
        "pets/2/scratch",
        "wrapped.tar/2/scratch",
        "bare/2/scratch",
    ]


def test_only_what_is_known_to_be_too_much_is_refused():
    text = changed(data="{name: digits, samples_per_class: {'1': 90, '7': 90}, classes: ['1', '7']}")
    assert len(keys(grid(text))) == 1  # 91 ones and 90 sevens: half of 182 and of 179, rounded up


def test_other_images_are_another_run():
    images(Path("pets"), cat=3, dog=2)
    before = keys(grid(folder_block("pets")))
    Path("pets/train/cat/0.png").write_bytes(b"another cat")
    assert keys(grid(folder_block("pets"))) != before


def test_a_digest_of_a_folder_is_no_part_of_another_sets_key():
    images(Path("pets"), cat=3, dog=2)
    (run,) = read(grid(folder_block("pets"))).runs.values()
    pinned = f"{{name: [digits, image_folder], path: pets, sha256: {run.data.sha256}, samples_per_class: 2}}"
    plain = keys(grid("{data: {name: digits, samples_per_class: 2}, method: scratch, seed: 0}"))
    assert keys(grid(f"{{data: {pinned}, method: scratch, seed: 0}}")) == {run.key} | plain


def test_a_renamed_image_is_another_run():
    images(Path("pets"), cat=3, dog=2)
    before = keys(grid(folder_block("pets")))
    Path("pets/train/cat/0.png").rename("pets/train/dog/9.png")
    assert keys(grid(folder_block("pets"))) != before


def test_a_folder_has_no_more_images_than_lie_in_it():
    images(Path("pets"), cat=3, dog=2)
    assert problems(grid(folder_block("pets", 3))) == (
        "sweep.yaml:3: data.samples_per_class must be <= 2 for class 'dog' of image_folder, got 3; "
        "ask for fewer, or leave the class out with data.classes",
    )
    assert len(keys(grid(folder_block("pets", "{cat: 3, dog: 1}")))) == 1
    assert "did you mean dog?" in problems(grid(folder_block("pets", "{cat: 3, dogs: 1}")))[0]


def test_a_test_set_that_is_split_off_leaves_fewer_images_and_makes_another_run():
    """Of 5 and 3 images, round(0.4 * 5) = 2 and round(0.4 * 3) = 1 are for the test."""
    images(Path("pets"), cat=5, dog=3)
    both = keys(grid(folder_block("pets")))
    refused = (
        "sweep.yaml:3: data.path 'pets': data.test_fraction must stand with train/ alone, got test/ too; remove one"
    )
    assert problems(grid(folder_block("pets, test_fraction: 0.4")))[0].startswith(refused)
    shutil.rmtree("pets/test")
    assert "split train/ with data.test_fraction" in problems(grid(folder_block("pets")))[0]
    split = keys(grid(folder_block("pets, test_fraction: 0.4")))
    assert len(split | both | keys(grid(folder_block("pets, test_fraction: 0.2")))) == 3
    (line,) = problems(grid(folder_block("pets, test_fraction: 0.4", 3)))
    assert "data.samples_per_class must be <= 2 for class 'dog' of image_folder, got 3" in line
    assert len(keys(grid(folder_block("pets, test_fraction: 0.4", "{cat: 3, dog: 2}")))) == 1


def test_a_test_fraction_stands_with_a_folder_and_is_no_part_of_another_sets_key():
    images(Path("pets"), cat=5, dog=3)
    shutil.rmtree("pets/test")
    digits = "{data: {name: digits, samples_per_class: 2}, method: scratch, seed: 0}"
    (line,) = problems(grid(digits.replace("digits", "digits, test_fraction: 0.4")))
    assert line == (
        "sweep.yaml:3: data.test_fraction must stand with image_folder, got data.name digits; remove it, "
        "or correct data.name"
    )
    both = digits.replace("digits", "[digits, image_folder], path: pets, test_fraction: 0.4")
    assert keys(grid(both)) == keys(grid(digits)) | keys(grid(folder_block("pets, test_fraction: 0.4")))


def test_every_bad_row_of_a_table_is_told_at_the_settings_line():
    images(Path("pets"), cat=1)
    Path("a.csv").write_text("path,label,split\npets/train/cat/0.png,cat,train\nnone.png,cat,train\nnot.png,cat,test\n")
    place = "sweep.yaml:3: data.path must be a folder or a tar of image_folder, 'a.csv' row"
    assert [line.partition(": path must be a file")[0] for line in problems(grid(folder_block("a.csv", 1)))] == [
        f"{place} 3",
        f"{place} 4",
    ]


@pytest.mark.parametrize("asked", ["caf\u00e9", "cafe\u0301"])
@pytest.mark.parametrize("there", ["caf\u00e9", "cafe\u0301"])
def test_a_class_may_be_spelled_in_any_unicode_form(asked, there):
    images(Path("pets"), **{there: 3, "dog": 2})
    data = f"{{name: image_folder, path: pets, classes: [{asked}, dog], samples_per_class: {{{asked}: %d, dog: 1}}}}"
    block = f"{{data: {data}, method: scratch, seed: 0}}"
    assert len(keys(grid(block % 3))) == 1
    rule = "data.samples_per_class must be <= 3 for image_folder, got 4; ask for fewer"
    assert problems(grid(block % 4)) == (f"sweep.yaml:3: {rule}",)


def test_a_class_in_two_unicode_forms_is_refused():
    images(Path("pets"), **{"café": 3, "dog": 2})
    data = "{name: image_folder, path: pets, classes: [caf\u00e9, cafe\u0301], samples_per_class: %s}"
    (line,) = problems(grid(f"{{data: {data % 1}, method: scratch, seed: 0}}"))
    assert line == r"sweep.yaml:3: data.classes must name each class once, got 'cafe\u0301' in two forms; remove one"
    data = "{name: image_folder, path: pets, samples_per_class: {caf\u00e9: 1, cafe\u0301: 2, '*': 1}}"
    (line,) = problems(grid(f"{{data: {data}, method: scratch, seed: 0}}"))
    assert "data.samples_per_class must name each class once" in line


def test_a_path_in_another_unicode_form_is_told():
    images(Path("cafe\u0301/pets"), cat=3, dog=2)
    (line,) = problems(grid(folder_block("caf\u00e9/pets")))
    assert line.startswith("sweep.yaml:3: data.path must be spelled as on the disk, where it is 'cafe\\u0301/pets'")


def test_every_bad_name_of_a_folder_has_its_line():
    images(Path("pets"), **{"c\x1bt": 3, "dog": 2})
    path = "'pets' a folder's name must be UTF-8 without control characters"
    assert problems(grid(folder_block("pets"))) == tuple(
        rf"sweep.yaml:3: data.path must be a folder or a tar of image_folder, {path}, got '{split}/c\x1bt'; rename it"
        for split in ("test", "train")
    )


def test_the_second_planning_reads_no_content(monkeypatch):
    images(Path("pets"), cat=3, dog=2)
    text = grid(folder_block("pets"), UFM)
    first = read(text)

    def never(*_):
        raise AssertionError("content was read")

    monkeypatch.setattr(digests, "compute_sha256", never)
    monkeypatch.setattr(digests, "_read_images", never)
    assert list(read(text).runs) == list(first.runs)
    with pytest.raises(AssertionError, match="content was read"):
        read(text, overrides=["execution.data_dir=elsewhere"])


@pytest.mark.parametrize("damage", ["{", "[]", '{"weights:x": 3}', "\x00"])
def test_damaged_memory_of_digests_costs_time_alone(damage):
    first = keys(grid(UFM))
    file = Path("data/.cache/digests.json")
    assert file.exists()
    file.write_text(damage)
    assert keys(grid(UFM)) == first
    assert json.loads(file.read_text())


def test_a_data_folder_that_cannot_be_written_costs_time_alone(caplog):
    Path("data").write_text("a file, so that no folder can be made")
    assert len(keys(grid(UFM))) == 1
    assert "digests are computed again next time" in caplog.text


@pytest.mark.parametrize("n_bytes", [0, 100, 5000])
def test_a_cut_tar_is_refused_at_its_line(n_bytes):
    images(Path("pets"), cat=3, dog=2)
    with tarfile.open("pets.tar", "w") as tar:
        tar.add("pets")
    Path("cut.tar").write_bytes(Path("pets.tar").read_bytes()[:n_bytes])
    (line,) = problems(grid(folder_block("cut.tar")))
    assert line.startswith("sweep.yaml:3: data.path must be a folder or a tar of image_folder")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder shared/ is not beside the checkout")
def test_the_published_network_and_real_images_are_found():
    block = (
        f"{{data: {{name: image_folder, path: {SHARED}/data/cifar10-jpeg.tar, samples_per_class: [10, 500]}}, "
        f"method: ufm, source: {{weights: {SHARED}/weights/l2t-ww-resnet32-tinyimagenet.pth.tar}}, seed: 0}}"
    )
    sweep = read(grid(block))
    assert list(sweep.cells.values()) == ["cifar10-jpeg/10/ufm", "cifar10-jpeg/500/ufm"]
    # sha256sum l2t-ww-resnet32-tinyimagenet.pth.tar
    weights = "049f81f8bea8504e90818d6c614f15c485ac2d891348330b433110e161f66d68"
    assert {run.source.sha256 for run in sweep.runs.values()} == {weights}


def test_an_image_size_is_part_of_the_key_where_it_is_not_the_default():
    digits = "{data: {name: digits, samples_per_class: 2}, method: scratch, seed: 0}"
    plain = keys(grid(digits))
    assert keys(grid(digits.replace("digits", "digits, image_size: 32, normalize: imagenet"))) == plain
    assert keys(grid(digits.replace("digits", "digits, image_size: 64"))) != plain


def test_the_shape_of_images_counts_where_they_are_not_square():
    images(Path("pets"), cat=3, dog=2)
    plain = keys(grid(folder_block("pets")))
    assert keys(grid(folder_block("pets, resize: squash"))) == plain
    assert len(plain | keys(grid(folder_block("pets, resize: [pad, shorter_side]")))) == 3
    digits = "{data: {name: digits, resize: pad, samples_per_class: 2}, method: scratch, seed: 0}"
    assert "data.resize must stand with image_folder, got data.name digits" in problems(grid(digits))[0]


def test_a_sources_normalisation_is_no_part_of_the_key_where_no_source_is_read():
    block = UFM.replace("ufm", "[scratch, ufm]")
    plain, other = keys(grid(block)), keys(grid(block.replace("digits", "digits, normalize: from_source")))
    assert len(plain & other) == 1
    assert len(plain | other) == 3


def test_changes_of_images_are_part_of_the_key_where_they_have_an_effect():
    digits = "{data: {name: digits, samples_per_class: 2}, method: scratch, seed: 0, augment: {%s}}"
    plain = keys(grid(digits % "flip: true"))
    assert keys(grid(digits % "mixup: 0.0, rand_augment: 0, color_jitter: 0.0")) == plain
    settings = ("mixup: 0.2", "rand_augment: 2", "color_jitter: 0.4", "hue_jitter: 0.1", "resized_crop: 0.08")
    assert len(plain.union(*(keys(grid(digits % setting)) for setting in settings))) == 6
    assert keys(grid(digits % "rand_augment: [0, 2], rand_augment_magnitude: 20")) > plain


@pytest.mark.parametrize(
    ("augment", "told"),
    [
        ("resized_crop: 0.1, crop_padding: 2", "augment.crop_padding must stand without augment.resized_crop"),
        ("rand_augment_magnitude: 20", "augment.rand_augment_magnitude must stand with augment.rand_augment of at"),
    ],
)
def test_a_change_of_images_without_an_effect_is_told(augment, told):
    digits = "{data: {name: digits, samples_per_class: 2}, method: scratch, seed: 0, augment: {%s}}"
    (line,) = problems(grid(digits % augment))
    assert line.startswith(f"sweep.yaml:3: {told}")
