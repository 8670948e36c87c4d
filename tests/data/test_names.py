"""Names of folders, files and classes in other encodings and Unicode forms, and zips made elsewhere."""

import os
import unicodedata
import zipfile

import pytest

from l2t_ray.data import load_data
from l2t_ray.data.digests import Digests
from l2t_ray.errors import InputError, printable
from tests.support.image_files import animals, folder_settings, png, write_folder, write_tar, write_zip

NFC = "café"
NFD = unicodedata.normalize("NFD", NFC)
LATIN = os.fsdecode(b"caf\xe9")


def renamed(new, old="cat", within=""):
    return {name.replace(old, new) if name.startswith(within) else name: content for name, content in animals().items()}


def write_raw_zip(path, files, *, encoding, utf8=False):
    """A zip whose names are bytes of an encoding, with or without the flag that says they are UTF-8."""

    class Member(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):  # noqa: N802 (zipfile's own name)
            return self.filename.encode(encoding), 0x800 if utf8 else 0

    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(Member(name), content)
    return path


def refusal(path, tmp_path, **settings):
    with pytest.raises(InputError) as caught:
        load_data(folder_settings(path, **settings), tmp_path / "data")
    told = [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]
    assert all(line.isprintable() for line in told)
    return told


@pytest.mark.parametrize("form", [write_folder, write_tar, write_zip])
@pytest.mark.parametrize("asked", [NFC, NFD])
@pytest.mark.parametrize("there", [NFC, NFD])
def test_unicode_forms_of_a_class_are_one_class(tmp_path, form, asked, there):
    path = form(tmp_path / "a", renamed(there))
    settings = {"samples": {asked: 2, "*": 1}, "classes": ("dog", asked), "title": "a"}
    data = load_data(folder_settings(path, **settings), tmp_path / "data")
    assert data.classes == ("dog", NFC)
    plain = load_data(folder_settings(write_tar(tmp_path / "b", renamed(NFC)), **settings), tmp_path / "data")
    assert data.sha256 == plain.sha256
    assert Digests(tmp_path).of_images(path) == Digests(tmp_path).of_images(tmp_path / "b")


def test_train_and_test_may_spell_a_class_in_two_forms(tmp_path):
    files = renamed(NFD, within="train") | renamed(NFC, within="test")
    files = {name: content for name, content in files.items() if "cat" not in name}
    assert load_data(folder_settings(write_folder(tmp_path / "a", files)), tmp_path).classes == (NFC, "dog")


def test_two_folders_that_look_the_same_are_refused_by_name(tmp_path):
    path = write_folder(tmp_path / "a", renamed(NFC) | renamed(NFD))
    rule = "names must differ in more than their Unicode form, got"
    spelled = [rf"'{split}/caf\xe9' beside '{split}/cafe\u0301'" for split in ("test", "train")]
    assert refusal(path, tmp_path) == [f"{rule} {both}; rename or merge them" for both in spelled]


def test_one_class_in_two_forms_of_a_setting_is_refused(tmp_path):
    path = write_folder(tmp_path / "a", renamed(NFC))
    for settings in ({"samples": {NFC: 1, NFD: 2, "dog": 1}}, {"classes": (NFC, NFD)}):
        (told,) = refusal(path, tmp_path, **settings)
        assert "must name each class once, got one in two Unicode forms" in told


def test_a_path_in_another_form_is_named_as_it_is_on_the_disk(tmp_path):
    write_folder(tmp_path / NFD / "pets", animals())
    (told,) = refusal(tmp_path / NFC / "pets", tmp_path)
    assert r"data.path must be spelled as on the disk" in told


@pytest.mark.parametrize("form", [write_folder, write_tar])
def test_class_folders_that_are_no_utf8_are_refused_and_shown(tmp_path, form):
    rule = "a folder's name must be UTF-8 without control characters, got"
    told = refusal(form(tmp_path / "a", renamed(LATIN)), tmp_path)
    assert told == [rf"{rule} '{split}/caf\xe9'; rename it" for split in ("test", "train")]
    told = refusal(form(tmp_path / "b", renamed("c\x1b[31m\nt")), tmp_path)
    assert told == [rf"{rule} '{split}/c\x1b[31m\nt'; rename it" for split in ("test", "train")]


@pytest.mark.parametrize("form", [write_folder, write_tar])
def test_a_file_may_have_any_name_and_is_shown_printably(tmp_path, form):
    odd = {f"train/cat/{LATIN}.png": png("red"), "train/cat/a\x1b\n.png": png("red")}
    data = load_data(folder_settings(form(tmp_path / "a", animals() | odd)), tmp_path)
    assert len(data.train_labels) == 8
    told = refusal(form(tmp_path / "b", animals() | dict.fromkeys(odd, b"")), tmp_path)
    assert [line.split()[0] for line in told] == [r"train/cat/a\x1b\n.png", r"train/cat/caf\xe9.png"]


def test_classes_may_differ_in_case_alone(tmp_path):
    data = load_data(folder_settings(write_tar(tmp_path / "a", animals() | renamed("Cat"))), tmp_path)
    assert data.classes == ("Cat", "cat", "dog")


def test_a_class_of_the_test_in_another_case_is_told(tmp_path):
    (told,) = refusal(write_tar(tmp_path / "a", renamed("Cat", within="train")), tmp_path)
    assert told == "classes of test/ must be in train/ too, got cat; rename it to Cat, as in train/"


@pytest.mark.parametrize(
    ("encoding", "utf8"), [("utf-8", True), ("utf-8", False), ("cp437", False)], ids=["flag", "mac", "dos"]
)
def test_zips_of_every_system_have_the_same_names(tmp_path, encoding, utf8):
    path = write_raw_zip(tmp_path / "a.zip", renamed(NFC), encoding=encoding, utf8=utf8)
    data = load_data(folder_settings(path), tmp_path)
    assert data.classes == (NFC, "dog")
    tar = write_tar(tmp_path / "a.tar", renamed(NFC))
    assert Digests(tmp_path).of_images(path) == Digests(tmp_path).of_images(tar)


def test_a_zip_that_says_utf8_of_other_bytes_is_refused(tmp_path):
    path = write_raw_zip(tmp_path / "a.zip", renamed(NFC), encoding="latin1", utf8=True)
    (told,) = refusal(path, tmp_path)
    assert "names that a zip calls UTF-8 must be UTF-8" in told


def test_backslashes_in_a_zip_divide_names(tmp_path):
    files = {name.replace("/", "\\"): content for name, content in animals().items()}
    files |= {"train\\": b"", "train\\cat\\": b""}  # folders, as .NET writes them
    path = write_zip(tmp_path / "windows.zip", files)
    assert load_data(folder_settings(path), tmp_path).classes == ("cat", "dog")
    assert Digests(tmp_path).of_images(path) == Digests(tmp_path).of_images(write_tar(tmp_path / "a", animals()))


@pytest.mark.parametrize(
    "name", ["..\\e.png", "train\\..\\..\\e.png", "\\e.png", "\\\\host\\e.png", "C:\\e.png", "c:/e.png", "C:e.png"]
)
def test_a_zip_that_leads_elsewhere_is_refused(tmp_path, name):
    (told,) = refusal(write_zip(tmp_path / "evil.zip", animals() | {name: b""}), tmp_path)
    assert told.startswith("members must lie inside the archive, got ")


def test_backslashes_elsewhere_are_refused_with_the_remedy(tmp_path):
    path = write_folder(tmp_path / "unpacked", animals())
    (path / "train\\cat\\9.png").write_bytes(png("red"))
    (told,) = refusal(path, tmp_path)
    assert told.endswith("pack it again, or name the zip from which it came")


@pytest.mark.parametrize("encrypted", ["train/cat/0.png", "test/dog/1.png"])
def test_a_zip_with_a_password_is_refused(tmp_path, encrypted):
    path = write_zip(tmp_path / "locked.zip", animals())
    content = bytearray(path.read_bytes())
    at = content.rindex(encrypted.encode())  # in the central directory, 46 bytes after its entry; flags are the 9th
    content[at - 46 + 8] |= 1
    path.write_bytes(content)
    rule = f"must be a zip without a password, '{encrypted}' is encrypted; unpack it, and name the folder"
    assert refusal(path, tmp_path) == [rule]


FOREIGN = {
    "a Git LFS pointer; run git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "a web page (HTML); download it again": b"\n<!DOCTYPE html>\n<html><title>Virus scan warning</title>",
    "a JSON text, such as a server's reply; download it again": b'{"message": "Not Found"}',
    "an XML text, such as a server's error; download it again": b'<?xml version="1.0"?><Error>Denied</Error>',
    "an empty file; fetch it again": b"",
    "a 7z archive; unpack it": b"7z\xbc\xaf\x27\x1c" + bytes(40),
    "a PNG image; name another file": png("red"),
    "a text that begins with 'wget: failed'; fetch it again": b"wget: failed\n",
    "a file of another kind; name another file": bytes(range(256)) * 9,
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_that_is_no_archive_is_called_what_it_is(tmp_path, what):
    path = tmp_path / "images.tar.gz"
    path.write_bytes(FOREIGN[what])
    assert refusal(path, tmp_path) == [f"must be a folder, or a whole tar or zip, got {what}"]


def test_a_file_of_zeros_is_called_so(tmp_path):
    path = tmp_path / "images.tar"
    path.write_bytes(bytes(20_000))
    (told,) = refusal(path, tmp_path)
    assert told.endswith("got a file of zeros; fetch it again")


@pytest.mark.parametrize(
    ("name", "shown"), [("a b", "a b"), (NFC, NFC), (LATIN, r"caf\xe9"), ("\x07\u2028", r"\x07\u2028")]
)
def test_names_are_shown_printably(name, shown):
    assert printable(name) == shown


def test_all_broken_links_of_a_folder_are_told(tmp_path):
    path = write_folder(tmp_path / "a", animals())
    for number in range(3):
        (path / f"train/cat/{number}.jpg").symlink_to("/nowhere")
    told = refusal(path, tmp_path)
    assert [line.split("'")[1] for line in told] == [f"train/cat/{number}.jpg" for number in range(3)]


@pytest.mark.parametrize(
    ("encoding", "name", "seen"), [("gbk", "狗", "╣╖"), ("shift_jis", "ネコ", "âlâR"), ("cp437", NFC, NFC)]
)
def test_a_zip_whose_names_are_guessed_says_so(tmp_path, capsys, encoding, name, seen):
    """0xB9 0xB7 is 狗 in GBK and ╣╖ in cp437; 0x83 0x6C 0x83 0x52 is ネコ in Shift JIS."""
    path = write_raw_zip(tmp_path / "a.zip", renamed(name), encoding=encoding)
    data = load_data(folder_settings(path), tmp_path / "data")
    assert {*data.classes} == {seen, "dog"}
    told = "5 names of this zip in an encoding that it does not tell, read as cp437: train/" + seen
    note = f"{path}: note: {told}/0.png; if that looks wrong, pack it with UTF-8 names"
    assert note in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("utf8", [True, False])
def test_a_zip_whose_names_are_utf8_has_no_note(tmp_path, capsys, utf8):
    path = write_raw_zip(tmp_path / "a.zip", renamed("猫"), encoding="utf-8", utf8=utf8)
    assert load_data(folder_settings(path), tmp_path / "data").classes == ("dog", "猫")
    assert "note" not in capsys.readouterr().err
