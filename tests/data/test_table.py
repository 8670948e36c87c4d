"""Tables of images: read as a folder, or refused with every bad row."""

import csv

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from l2t_ray.data import archive
from l2t_ray.data.digests import Digests
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError
from tests.support.image_files import animals, folder_settings, png, tensors, write_folder

COLUMNS = ("path", "label", "split")


def rows(files):
    return [(f"images/{name}", name.split("/")[1], name.split("/")[0]) for name in files]


def write_table(path, content, columns=COLUMNS):
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([columns, *content])
    else:
        values = zip(*content, strict=True)
        parquet.write_table(pa.table({name: [*some] for name, some in zip(columns, values, strict=True)}), path)
    return path


@pytest.fixture
def images(tmp_path):
    return write_folder(tmp_path / "images", animals())


@pytest.mark.parametrize("suffix", ["csv", "parquet", "CSV"])
def test_a_table_is_read_as_the_folder_that_it_names(images, tmp_path, suffix):
    path = write_table(tmp_path / f"labels.{suffix}".replace("CSV", "csv"), rows(animals()))
    path = path.rename(tmp_path / f"labels.{suffix}")
    found, expected = (load_data(folder_settings(one), tmp_path / "data") for one in (path, images))
    assert found.name == "labels"
    assert found.classes == expected.classes
    assert all(map(torch.equal, tensors(found), tensors(expected)))


def test_columns_may_stand_in_any_order_beside_others_and_labels_may_be_numbers(images, tmp_path):
    content = [(split, "mine", 7 if label == "cat" else 12, file) for file, label, split in rows(animals())]
    columns = ("split", "author", "label", "path")
    csv_path = write_table(tmp_path / "a.csv", content, columns)
    assert load_data(folder_settings(csv_path), tmp_path).classes == ("12", "7")
    parquet_path = write_table(tmp_path / "a.parquet", content, columns)
    assert load_data(folder_settings(parquet_path), tmp_path).classes == ("12", "7")


def test_a_set_is_known_by_its_images_labels_and_order_wherever_the_files_lie(images, tmp_path):
    content = rows(animals())
    path = write_table(tmp_path / "a.csv", content)
    first = Digests(tmp_path / "1").of_images(path)
    (tmp_path / "there").mkdir()
    images.rename(tmp_path / "there" / "pictures")
    moved = [(file.replace("images", "pictures"), *rest) for file, *rest in content]
    assert Digests(tmp_path / "2").of_images(write_table(tmp_path / "there" / "b.parquet", moved)) == first
    absolute = [(str(tmp_path / "there" / file), *rest) for file, *rest in moved]
    assert Digests(tmp_path / "3").of_images(write_table(tmp_path / "c.csv", absolute)) == first
    other = [(file, {"cat": "dog", "dog": "cat"}[label], split) for file, label, split in absolute]
    assert Digests(tmp_path / "4").of_images(write_table(tmp_path / "d.csv", other)).sha256 != first.sha256
    reverse = absolute[::-1]
    assert Digests(tmp_path / "5").of_images(write_table(tmp_path / "e.csv", reverse)).sha256 != first.sha256


def test_a_changed_image_is_seen_though_the_table_is_the_same(images, tmp_path):
    path, digests = write_table(tmp_path / "a.csv", rows(animals())), Digests(tmp_path)
    before = digests.of_images(path)
    (images / "train/cat/0.png").write_bytes(png("blue", (31, 33)))
    assert digests.of_images(path).sha256 != before.sha256


def test_a_table_without_splits_is_split_by_a_fraction(images, tmp_path):
    path = write_table(tmp_path / "a.csv", [row[:2] for row in rows(animals())], COLUMNS[:2])
    data = load_data(folder_settings(path, test_fraction=0.4), tmp_path)
    assert data.train_labels.bincount().tolist() == [3, 3]
    assert data.test_labels.bincount().tolist() == [2, 2]
    with pytest.raises(InputError, match=r"a.csv: test/<class>/ must hold images, .* split train/ with"):
        load_data(folder_settings(path), tmp_path)


def test_every_bad_row_is_told_at_once_with_its_number(images, tmp_path, monkeypatch):
    """The header is row 1, as an editor and a spreadsheet count."""
    monkeypatch.setattr("l2t_ray.data.table.MAX_FILE_BYTES", 200)
    (images / "large.png").write_bytes(bytes(201))
    content = rows(animals())
    content[0:1] = [("images/none.png", "cat", "train"), ("", "cat", "train"), ("images", "cat", "train")]
    content += [("images/train/cat/1.png", "", "train"), ("images/train/cat/1.png", "a/b", "valid")]
    content += [("images/large.png", "cat", "test"), ("a" * 5000, "cat", "test")]
    rule, remedy = "path must be a file, counted from the table's folder, got", "correct it, or remove the row"
    expected = [
        f"row 2: {rule} 'images/none.png'; {remedy}",
        f"row 3: {rule} ''; {remedy}",
        f"row 4: {rule} 'images'; {remedy}",
        "row 14: label must be a text without / and control characters, got ''; correct it",
        "row 15: label must be a text without / and control characters, got 'a/b'; correct it",
        "row 15: split must be train or test, got 'valid'; correct it",
        "row 16: files must be <= 200 bytes, 'images/large.png' has 201",
        f"row 17: {rule} '{'a' * 5000}'; {remedy}",
    ]
    for suffix in ("csv", "parquet"):
        path = write_table(tmp_path / f"a.{suffix}", content)
        with pytest.raises(InputError) as caught:
            load_data(folder_settings(path), tmp_path / "data")
        assert [*caught.value.problems] == [f"{path}: {line}" for line in expected]


def test_many_bad_rows_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_SHOWN", 3)
    path = write_table(tmp_path / "a.csv", [(f"{number}.png", "cat", "train") for number in range(9)])
    with pytest.raises(InputError) as caught:
        load_data(folder_settings(path), tmp_path)
    assert caught.value.problems[-1] == f"{path}: 6 more, 9 problems in all"


def test_a_row_whose_image_cannot_be_decoded_is_named(images, tmp_path):
    (images / "train/dog/2.png").write_bytes(b"no image")
    path = write_table(tmp_path / "a.csv", rows(animals()))
    with pytest.raises(InputError, match=r"a.csv: row 7: images/train/dog/2.png must be an image that can be decoded"):
        load_data(folder_settings(path), tmp_path)


WRONG = {
    "no columns": (
        "a.csv",
        b"photo,class\nx.png,cat\n",
        "must have the columns path, label, split, got photo, class; add",
    ),
    "no content": ("a.csv", b"", "must have the columns path, label, split, got none; add path and label"),
    "no rows": ("a.csv", b"path,label,split\n", "must have a row for each image, got none; add them"),
    "not UTF-8": ("a.csv", b"path,label\n\xff\xfe,cat\n", "must be a CSV in UTF-8, got 'utf-8' codec"),
    "zeros": ("a.csv", bytes(99), "must have the columns path, label, split, got \\x00\\x00"),
    "no Parquet": ("a.parquet", b"PAR1 and no more", "must be a Parquet table that can be read, got Parquet"),
    "an empty Parquet": (
        "a.parquet",
        b"",
        "must be a Parquet table that can be read, got Parquet file size is 0 bytes",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, case):
    name, content, told = WRONG[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_data(folder_settings(tmp_path / name), tmp_path)
    (line,) = caught.value.problems
    assert line.startswith(f"{tmp_path / name}: {told}")
    assert "\n" not in line


def refusal(path, tmp_path):
    with pytest.raises(InputError) as caught:
        load_data(folder_settings(path), tmp_path / "data")
    return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]


def lines_of(files, more=""):
    return [f"{file},{label},{split}{more}" for file, label, split in rows(files)]


QUOTES = "each value in quotes must end with a quote, before a comma or the end of its line, got"
ONE_LINE = "a value must be on one line, got"
LINE_END = "close its quotes, or remove the end of the line"


@pytest.mark.parametrize("column", ["label", "note"])
def test_an_open_quote_does_not_swallow_the_rows_behind_it(images, tmp_path, column):
    """Row 3 opens a quote that the end of the file, or row 5, closes."""
    path, content = tmp_path / "a.csv", lines_of(animals(), ",-")
    broken = content[1].replace(",-", ',"5 inch') if column == "note" else content[1].replace(",dog", ',"dog')
    for last, told in ((content[3], "unexpected end of data"), (content[3] + '"', ""), (content[3] + '"x', "',' exp")):
        path.write_text("\n".join(["path,label,split,note", content[0], broken, content[2], last]))
        (line, *_) = refusal(path, tmp_path)
        assert line.startswith(f"row 3: {QUOTES} {told}" if told else f"row 3: {ONE_LINE} ")


def test_a_line_end_within_a_value_is_refused_in_every_column(images, tmp_path):
    path, content = tmp_path / "a.csv", lines_of(animals(), ",-")
    content[2] = content[2].replace(",-", ',"one\r\ntwo"')
    content[5] = content[5].replace(",-", ',"\r"')
    path.write_text("\n".join(["path,label,split,note", *content]), newline="")
    told = refusal(path, tmp_path)
    assert told == [f"row 4: {ONE_LINE} 'one\\r\\ntwo'; {LINE_END}", f"row 8: {ONE_LINE} '\\r'; {LINE_END}"]
    path.write_text("\n".join(['path,label,split,"no\nte"', *lines_of(animals(), ",-")]))
    assert refusal(path, tmp_path) == [f"row 1: a column's name must be on one line, got 'no\\nte'; {LINE_END}"]


def test_quotes_that_are_right_are_read(images, tmp_path):
    path, content = tmp_path / "a.csv", lines_of(animals())
    content = [f'"{file}", "{label}, a ""pet""",{split},5" high' for file, label, split in rows(animals())]
    path.write_text("\n".join(["path,label,split,note", *content]))
    assert load_data(folder_settings(path), tmp_path).classes == ('cat, a "pet"', 'dog, a "pet"')


def test_a_comma_without_quotes_is_refused(images, tmp_path):
    """`Paris, France` and `Paris, Texas` would be one class."""
    path = tmp_path / "a.csv"
    content = [f"{split},{file},{label}" for file, label, split in rows(animals())]
    content[1] += ", brown"
    content[4] += ", black"
    path.write_text("\n".join(["split,path,label", *content]))
    rule = "must have a value for each of the 3 columns, got 4; quote the value that holds a comma"
    assert refusal(path, tmp_path) == [f"row 3: {rule}", f"row 6: {rule}"]
    path.write_text("\n".join(["split,path,label", *content]).replace(", brown", ",").replace(", black", ", ,"))
    assert load_data(folder_settings(path), tmp_path).classes == ("cat", "dog")


def test_a_row_that_is_too_short_lacks_its_last_values(images, tmp_path):
    path, content = tmp_path / "a.csv", lines_of(animals(), ",-")
    content[0] = content[0].removesuffix(",-")
    path.write_text("\n".join(["path,label,split,note", *content]))
    assert len(load_data(folder_settings(path), tmp_path).train_labels) == 6
    content[1:3] = ["images/train/cat/1.png,cat", "images/train/cat/1.png"]
    path.write_text("\n".join(["path,label,split,note", *content]))
    assert refusal(path, tmp_path) == [
        "row 3: split must be train or test, got ''; correct it",
        "row 4: label must be a text without / and control characters, got ''; correct it",
        "row 4: split must be train or test, got ''; correct it",
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_that_is_there_twice_is_refused(images, tmp_path, suffix):
    content = [(*row, "other") for row in rows(animals())]
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        write_table(path, content, (*COLUMNS, " label"))
    else:
        columns = [pa.array(values) for values in zip(*content, strict=True)]
        parquet.write_table(pa.Table.from_arrays(columns, [*COLUMNS, "label"]), path)
    rule = "row 1: a column must be there once, label is there twice; rename or remove one"
    assert refusal(path, tmp_path) == [rule]


def test_other_columns_may_be_there_twice(images, tmp_path):
    path = write_table(tmp_path / "a.csv", [(*row, 1, 2) for row in rows(animals())], (*COLUMNS, "x", "x"))
    assert load_data(folder_settings(path), tmp_path).classes == ("cat", "dog")


def parquet_of(file, **changed):
    columns = dict(zip(COLUMNS, zip(*rows(animals()), strict=True), strict=True))
    table = {name: pa.array(changed.get(name, [*values])) for name, values in columns.items()}
    parquet.write_table(pa.table(table), file)
    return file


LABELS = [label for _, label, _ in rows(animals())]
EMPTY = "label must be a text without / and control characters, got ''; correct it"
NO_TEXT = "label must be a text, in UTF-8, or a number, got"
NOT_TEXT = {
    "nan": ([float("nan"), *map(float, range(9))], EMPTY),
    "null": ([None, *LABELS[1:]], EMPTY),
    "latin": ([b"caf\xe9", *(label.encode() for label in LABELS[1:])], f"{NO_TEXT} b'caf\\xe9'; correct it"),
    "list": ([["cat"], *([None] * 9)], f"{NO_TEXT} ['cat']; correct it"),
    "struct": ([{"name": "cat"}, *([None] * 9)], f"{NO_TEXT} {{'name': 'cat'}}; correct it"),
}


@pytest.mark.parametrize("kind", NOT_TEXT)
def test_labels_of_a_parquet_that_are_no_text_are_refused(images, tmp_path, kind):
    labels, told = NOT_TEXT[kind]
    assert refusal(parquet_of(tmp_path / "a.parquet", label=labels), tmp_path)[0] == f"row 2: {told}"


def test_a_missing_split_or_path_of_a_parquet_is_refused(images, tmp_path):
    missing = [float("nan")] * 10
    told = refusal(parquet_of(tmp_path / "a.parquet", split=missing, path=missing), tmp_path)
    assert told[:2] == [
        "row 2: split must be train or test, got ''; correct it",
        "row 2: path must be a file, counted from the table's folder, got ''; correct it, or remove the row",
    ]


LABELLED = {
    "bytes": ([label.encode() for label in LABELS], ("cat", "dog")),
    "booleans": ([label == "cat" for label in LABELS], ("False", "True")),
    "whole": ([LABELS.index(label) for label in LABELS], ("0", "1")),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_labels_of_a_parquet_may_be_bytes_and_numbers(images, tmp_path, kind):
    labels, classes = LABELLED[kind]
    assert load_data(folder_settings(parquet_of(tmp_path / "a.parquet", label=labels)), tmp_path).classes == classes


def test_a_table_of_one_class_is_refused(images, tmp_path):
    path = write_table(tmp_path / "a.csv", [(file, "cat", split) for file, _, split in rows(animals())])
    assert refusal(path, tmp_path) == ["there must be two classes or more, got 'cat' alone; add the others"]
