"""What is kept of a digest, and when files are read again."""

import json
import os

import pytest

from l2t_ray.data import digests
from l2t_ray.data.digests import Digests
from tests.support.image_files import animals, png, write_folder, write_tar


def same_sizes_and_times(folder):
    """A folder whose files differ in content alone, as an unpacked archive's do."""
    for file in folder.rglob("*.png"):
        file.write_bytes(file.read_bytes().ljust(200, b"\0"))
        os.utime(file, ns=(10**18, 10**18))
    return folder


def test_class_folders_that_change_places_are_noticed(tmp_path):
    path, kept = same_sizes_and_times(write_folder(tmp_path / "a", animals())), Digests(tmp_path)
    before = kept.of_images(path)
    for one, other in (("cat", "third"), ("dog", "cat"), ("third", "dog")):
        (path / "train" / one).rename(path / "train" / other)
    assert kept.of_images(path).sha256 != before.sha256
    assert kept.of_images(path) == Digests(tmp_path / "fresh").of_images(path)


@pytest.mark.parametrize("name", ["a/train/cat/0.png", "a.tar", "weights.pt"])
def test_a_file_rewritten_in_its_place_and_time_is_noticed(tmp_path, name):
    write_folder(tmp_path / "a", animals())
    write_tar(tmp_path / "a.tar", animals())
    (tmp_path / "weights.pt").write_bytes(bytes(99))
    kept, file = Digests(tmp_path / "kept"), tmp_path / name
    path = tmp_path / name.split("/")[0]
    look = kept.of_weights if path.suffix == ".pt" else kept.of_images
    before, time = look(path), file.stat().st_mtime_ns
    content = file.read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1]) if path.suffix == ".pt" else content
    if path.is_dir():
        changed = png((107, 0, 0))
    elif path.suffix == ".tar":
        changed = content.replace(png((100, 0, 0)), png((107, 0, 0)))
    assert len(changed) == len(content)
    file.write_bytes(changed)
    os.utime(file, ns=(time, time))
    assert look(path).sha256 != before.sha256


def test_another_name_of_one_of_many_links_to_a_folder_is_noticed(tmp_path):
    path, kept = write_folder(tmp_path / "a", animals()), Digests(tmp_path)
    (path / "train/cat").rename(tmp_path / "pool")
    for number in range(4):
        (path / f"train/link{number}").symlink_to(tmp_path / "pool")
    for number in range(4):
        kept.of_images(path)
        (path / f"train/link{number}").rename(path / f"train/new{number}")
        assert kept.of_images(path).n_train[f"new{number}"] == 3


def test_digests_kept_by_an_older_version_are_computed_again(tmp_path, monkeypatch):
    path, kept = write_tar(tmp_path / "a.tar", animals()), Digests(tmp_path)
    found = kept.of_images(path)
    kept.save()
    whole = json.loads(kept.file.read_bytes())
    (entry,) = whole.values()
    status = path.stat()
    for older in ({"stamp": f"{status.st_size}:{status.st_mtime_ns}"}, {"val": None}):
        old = {key: value for key, value in (entry | older).items() if value is not None}
        kept.file.write_text(json.dumps(dict.fromkeys(whole, old)))
        again = Digests(tmp_path)
        assert again.of_images(path) == found
        again.save()
    monkeypatch.setattr(digests, "_read_images", None)
    assert Digests(tmp_path).of_images(path) == found


def test_images_a_folder_deeper_are_no_images_of_a_class(tmp_path):
    """They were counted for the folder between, so that too few images were told in the place of the layout."""
    path = write_folder(tmp_path / "a", animals(3, 1) | {"train/wild/wolf/0.png": png("blue")})
    assert Digests(tmp_path).of_images(path).n_train == {"cat": 3, "dog": 3}
