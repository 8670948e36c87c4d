"""CSV tables as pandas, spreadsheets and people write them."""

import math
from pathlib import Path

import pytest

from tests.support.exports import ERRORS, SEEDS, bring, lines, report, write_csv


def test_a_number_has_one_spelling():
    write_csv([
        line.replace("0.10", spelling) for line, spelling in zip(lines(), ["0.1", "1e-1", "0.10"] * 4, strict=True)
    ])
    assert "12 runs in 2 cells" in bring()[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12e4567", "34e8901"),  # short hashes of git: both overflow
        ("0e12345", "0e67890"),
        ("1e-400", "2e-400"),
        ("007", "7"),
        ("012345678901234567890", "012345678901234567891"),
        ("12345678901234567890", "12345678901234567891"),
        ("+12345678901234567890", "+12345678901234567891"),
        ('"""01"""', "1"),  # JSON's text in a cell
    ],
)
def test_texts_that_look_like_one_number_are_different_settings(one, other):
    write_csv([f"{text},0.1,{seed},{20 + seed}" for text in (one, other) for seed in SEEDS])
    assert "12 runs in 2 cells" in bring()[1]


def test_numbers_are_the_settings_that_they_were():
    from l2t_ray.importing.rows import value_of

    texts = [
        "0.10",
        "1e-1",
        ".5",
        "7.",
        "+7",
        "1e3",
        "-0.0",
        "0.0e+00",
        "1e-005",
        "inf",
        "-Infinity",
        "1_0",
        "true",
        "a",
    ]
    values = [0.1, 0.1, 0.5, 7, 7, 1000, 0, 0, 1e-5, math.inf, -math.inf, "1_0", True, "a"]
    assert [value_of(text) for text in texts] == values
    assert [type(value_of(text)) for text in texts] == [type(value) for value in values]
    assert value_of('["01", 1.0]') == ["01", 1]


def test_seeds_and_results_are_numbers_however_they_are_written():
    write_csv([f"{model},0.1,00{seed},0{errors[seed]}" for model, errors in ERRORS.items() for seed in SEEDS])
    assert bring()[0] == 0
    values = report()[1]["cells"][0]["values"]
    assert [values[str(seed)] for seed in SEEDS] == [*ERRORS["resnet"]]


@pytest.mark.parametrize(
    ("values", "size", "told"),
    [
        (["998", "1.012", "1.020", "997"], "5", "runs.csv:3: error_percent must say what its dots are, got 1.012 in a"),
        (["1.112", "1.012", "1.020", "1.997"], "0,5", "is 1.112 a thousand? write 1112 (all of them so), or 1.1120"),
        (["998", "1.0120", "1.020", "997"], "5", ""),
        (["0.998", "1.012", "1.020", "997"], "5", ""),
        (["1.112", "1.012", "1.020", "1.997"], "0.5", ""),
        (["12", "1.012", "1.020", "97"], "5", ""),
    ],
)
def test_dots_that_may_be_thousands_are_refused(values, size, told):
    write_csv(
        [f"a;{size};{seed};{value}" for seed, value in enumerate(values)], heading="model;size;seed;error_percent"
    )
    code, _, err = bring()
    assert (code, told in err) == (2 if told else 0, True)


def test_pandas_index_is_left_out_and_other_columns_need_names():
    numbered = [f"{number},{line}" for number, line in enumerate(lines())]
    for heading in ("", "Unnamed: 0"):
        write_csv(numbered, heading=f"{heading},model,lr,seed,error_percent")
        code, out, err = bring()
        assert code == 0
        assert "12 runs in 2 cells" in out
        assert f"columns left out: {heading or 'the first (it numbers the rows)'}; " in err
    write_csv(numbered[1:], heading=",model,lr,seed,error_percent")
    code, _, err = bring()
    assert code == 2
    assert "runs.csv:1: column 1 must have a name, it has values such as '1'; give the column a name" in err


def test_what_a_spreadsheet_adds_is_no_column():
    write_csv([line.replace(",", ";") + ";;" for line in lines()] + [";;;;;"], heading="model;lr;seed;error_percent;;")
    Path("runs.csv").write_text("\ufeffsep=;\r\n" + Path("runs.csv").read_text())
    assert "12 runs in 2 cells, 12 new" in bring()[1]
    Path("runs.csv").write_text(Path("runs.csv").read_text().replace(";1;", ";x;"))
    assert "runs.csv:4: seed must be a seed" in bring()[2]
    write_csv([*lines()[:-1], f"{lines()[-1]},7"], heading="model,lr,seed,error_percent,")
    assert "runs.csv:1: column 5 must have a name, it has values such as '7'; give" in bring()[2]


def test_what_tells_runs_of_the_ledger_apart_is_left_out_of_their_table():
    write_csv(
        [f"{line},{9 + n}.5,k{n}" for n, line in enumerate(lines())], heading="model,lr,seed,error_percent,wall_s,key"
    )
    code, out, err = bring()
    assert code == 0
    assert "12 runs in 2 cells" in out
    assert "columns left out: wall_s, key; " in err


def test_a_result_that_a_float_cannot_hold_has_diverged():
    write_csv([*lines()[:-1], lines()[-1].replace("21.0", "1e400")])
    code, _, err = bring()
    assert code == 1
    assert "runs.csv:13: error_percent is inf in the export" in err


@pytest.mark.parametrize("first", ["", "sep=|\n"])
def test_other_separators_are_refused(first):
    Path("runs.csv").write_text(first + "model|lr|seed|error_percent\na|0.1|0|20\n")
    code, _, err = bring()
    assert code == 2
    assert "the columns must be separated by commas, semicolons or tabs, got 'model|lr|seed|error_percent'; save" in err
