"""Damaged, joined and foreign archives, and folders whose links lead round."""

import bz2
import gzip
import lzma
import tarfile
import time

import pytest

from l2t_ray.data.layout import opened
from l2t_ray.data.load import load_data
from l2t_ray.data.notes import notes
from l2t_ray.data.walk import walk
from l2t_ray.errors import InputError
from tests.support.image_files import animals, equal, folder_settings, png, write_folder, write_tar


def refusal(path, tmp_path):
    with pytest.raises(InputError) as caught:
        load_data(folder_settings(path), tmp_path / "data")
    (told,) = caught.value.problems
    return told.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("mode", "at"),
    [("gz", -8), ("bz2", -3), ("xz", -20)],  # RFC 1952: the CRC is before the last 4 bytes; bzip2's is at the end
)
def test_a_compressed_tar_whose_checksum_differs_is_damaged(tmp_path, mode, at):
    path = write_tar(tmp_path / f"a.tar.{mode}", animals(), f"w:{mode}")
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)
    told = refusal(path, tmp_path)
    assert told.startswith("must be a folder, or a whole tar or zip, got a file compressed with ")
    assert ", which is damaged (" in told
    assert told.endswith("; fetch it again")


def test_a_compressed_tar_without_its_last_bytes_is_cut_short(tmp_path):
    path = write_tar(tmp_path / "a.tar.gz", animals(), "w:gz")
    path.write_bytes(path.read_bytes()[:-6])
    assert "a file compressed with gzip, which is cut short; fetch it again" in refusal(path, tmp_path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["", "gz", "bz2", "xz"])
def test_tars_one_behind_the_other_are_refused(tmp_path, pack):
    """Each is whole, so that compressed ones are whole together, too."""
    cats, dogs = ({name: one for name, one in animals().items() if pet in name} for pet in ("cat", "dog"))
    parts = [write_tar(tmp_path / name, files).read_bytes() for name, files in (("a", cats), ("b", dogs))]
    path = tmp_path / "both.tar"
    path.write_bytes(b"".join(pack(part) for part in parts))
    rule = "a tar must end where it says, after 5 members, got more, such as a second tar"
    assert refusal(path, tmp_path) == f"{rule}; unpack it with `tar --ignore-zeros -xf`, and pack all files again"


def test_zeros_behind_a_tar_are_none_of_its_content(tmp_path):
    path = write_tar(tmp_path / "a.tar", animals())
    path.write_bytes(path.read_bytes() + bytes(3_000_000))
    assert load_data(folder_settings(path), tmp_path).classes == ("cat", "dog")


def test_folders_that_all_link_to_the_one_above_are_walked_once(tmp_path):
    """Followed to a depth of 6, a hundred links are 100 ** 5 folders."""
    files = {f"{split}/c{number}/0.png": png("red") for split in ("train", "test") for number in range(100)}
    path = write_folder(tmp_path / "a", files)
    plain = load_data(folder_settings(path, title="a"), tmp_path / "plain")
    for number in range(100):
        (path / f"train/c{number}/all").symlink_to("..")
    start = time.monotonic()
    assert equal(load_data(folder_settings(path, title="a"), tmp_path / "data"), plain)
    assert time.monotonic() - start < 60


def test_folders_that_link_to_each_other_are_refused(tmp_path):
    path = write_folder(tmp_path / "a", {f"train/c{number}/0.png": png("red") for number in range(30)})
    for number in range(30):
        for other in range(30):
            (path / f"train/c{number}/c{other}").symlink_to(f"../c{other}")
    with pytest.raises(InputError, match="links must lead to a folder at most 100 times, got more; remove the links"):
        load_data(folder_settings(path), tmp_path / "data")


def test_a_link_to_a_folder_elsewhere_is_a_folder(tmp_path):
    path = write_folder(tmp_path / "a", {name: one for name, one in animals().items() if "train" in name})
    (path / "test").symlink_to("train")
    data = load_data(folder_settings(path), tmp_path / "data")
    assert len(data.test_labels) == 6
    assert [name for name, _ in walk(path)].count("test/cat") == 1


@pytest.mark.parametrize("form", [write_folder, write_tar])
def test_files_that_windows_puts_into_folders_are_passed_over(tmp_path, form):
    plain = load_data(folder_settings(write_tar(tmp_path / "plain.tar", animals()), title="a"), tmp_path)
    clutter = {"train/cat/desktop.ini": b"[.ShellClassInfo]\r\n", "test/dog/Thumbs.db": b"\xd0\xcf\x11\xe0"}
    found = load_data(folder_settings(form(tmp_path / "a", animals() | clutter), title="a"), tmp_path)
    assert equal(found, plain)


@pytest.mark.parametrize("form", [write_folder, write_tar])
@pytest.mark.parametrize("top", ["", "pets/"])
def test_images_that_are_left_out_are_noted_with_their_number(tmp_path, capsys, form, top):
    files = animals() | {f"train/.NET/{number}.JPG": png("blue") for number in range(12)}
    files |= {"test/cat/.9.png": png("red"), "val/cat/1.png": png("red"), "val/dog/2.png": png("red")}
    files |= {"preview.png": png("red"), "train/cat/.DS_Store": b"", "train/cat/._1.png": b"", "notes/a.txt": b""}
    files |= {"train/.ipynb_checkpoints/1.png": b"", "__MACOSX/train/cat/1.png": b"", ".git/a.png": b""}
    path = form(tmp_path / "a", {top + name: content for name, content in files.items()})
    hidden = "13 images are hidden and left out, as their name or their folder's begins with a dot"
    beside = "2 images are left out, as only train/ and test/ are read"
    expected = [
        f"{hidden}: test/cat/.9.png (1), train/.NET (12); rename what belongs to the set",
        f"{beside}: val (2); move what belongs to the set",
    ]
    assert notes(opened(path)) == expected
    load_data(folder_settings(path), tmp_path / "data")
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if " note: " in line] == [f"{path}: note: {line}" for line in expected]


def test_a_set_of_which_nothing_is_left_out_has_no_note(tmp_path):
    path = write_folder(tmp_path / "a", animals() | {"README.md": b"", "preview.png": png("red")})
    assert notes(opened(path)) == []


def test_a_tar_that_ends_in_one_block_of_zeros_is_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", animals())
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset_data + -(-last.size // 512) * 512 + 512])
    assert load_data(folder_settings(path), tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize("form", [write_folder, write_tar])
@pytest.mark.parametrize("val", ["val", "validation"])
def test_a_validation_folder_is_offered_as_the_test_set(tmp_path, form, val):
    files = {name.replace("test/", f"{val}/"): content for name, content in animals().items()}
    remedy = "rename it to test/, add a folder test/, or split train/ with data.test_fraction"
    rule = f"test/<class>/ must hold images, there are none, but {val}/; {remedy}"
    path = form(tmp_path / "a", files)
    assert refusal(path, tmp_path) == rule
    data = load_data(folder_settings(path, test_fraction=0.4), tmp_path)
    assert len(data.test_labels) == 2


@pytest.mark.parametrize("form", [write_folder, write_tar])
def test_one_class_is_refused(tmp_path, form):
    path = form(tmp_path / "a", {name: content for name, content in animals().items() if "cat" in name})
    assert refusal(path, tmp_path) == "there must be two classes or more, got 'cat' alone; add the others"
