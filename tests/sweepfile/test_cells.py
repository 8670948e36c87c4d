"""Sweep files: blocks into cells, the same run under one key however it is written."""

import hashlib
from pathlib import Path

import pytest

from l2t_ray import registry
from l2t_ray.sweep import main
from tests.support.sweepfiles import DESIGN_EXAMPLE, DIGITS, METHOD, UFM, cells, changed, grid, keys, problems, read

pytestmark = pytest.mark.usefixtures("sweep_folder")


def test_a_block_is_the_product_of_its_lists_in_the_files_order():
    sweep = read(grid(changed(name="cifar10", samples_per_class="[10, 5]", method="[ufm, scratch]", seed="[3, 1]")))
    expected = [(n, m, s) for n in (10, 5) for m in ("ufm", "scratch") for s in (3, 1)]
    assert [(run.data.samples_per_class, run.method, run.seed) for run in sweep.runs.values()] == expected
    assert all(run.key == key for key, run in sweep.runs.items())
    assert list(dict.fromkeys(sweep.cells.values())) == [
        "cifar10/10/ufm",
        "cifar10/10/scratch",
        "cifar10/5/ufm",
        "cifar10/5/scratch",
    ]


def test_the_example_of_the_design_has_600_runs():
    sweep = read(DESIGN_EXAMPLE.replace("weights/resnet32-tinyimagenet.pt", "net.pt"))
    assert (sweep.name, len(sweep.runs), len(set(sweep.cells.values()))) == ("paper_grid", 5 * 4 * 30, 5 * 4)
    assert sweep.execution.retries == 2


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ({"transfer": "{beta: [0.1, 1]}"}, ["digits/5/ufm/beta=0.1", "digits/5/ufm/beta=1.0"]),
        ({"transfer": "{beta: [0.1]}"}, ["digits/5/ufm/beta=0.1"]),
        ({"transfer": "{pairs: [all, single]}"}, ["digits/5/ufm/pairs=all", "digits/5/ufm/pairs=single"]),
        ({"transfer": "{pairs: [[0, 1], [2, 4]]}"}, ["digits/5/ufm"]),
        ({"transfer": "{pairs: [[[2, 4], [0, 1]]]}"}, ["digits/5/ufm/pairs=[[0,1],[2,4]]"]),
        ({"transfer": "{pairs: [all, [[0, 1]]]}"}, ["digits/5/ufm/pairs=all", "digits/5/ufm/pairs=[[0,1]]"]),
        ({"samples_per_class": "{'*': 5, '3': 2}"}, ["digits/5,3=2/ufm"]),
        ({"samples_per_class": "[{'*': 5, '3': 2}, 4]"}, ["digits/5,3=2/ufm", "digits/4/ufm"]),
        ({"data": "{name: digits, samples_per_class: 5, classes: ['1', '7']}"}, ["digits/5/ufm"]),
        (
            {"data": "{name: digits, samples_per_class: 5, classes: [['1', '7'], ['3', '8']]}"},
            ["digits/5/ufm/classes=[1,7]", "digits/5/ufm/classes=[3,8]"],
        ),
        ({"data": "{name: digits, samples_per_class: 5, title: Ten digits}"}, ["Ten digits/5/ufm"]),
        ({"variant": "warm", "transfer": "{beta: [0.1]}"}, ["digits/5/ufm/warm,beta=0.1"]),
        ({"target": "{width: [0.5]}", "source": "{weights: net.pt, width: 1}"}, ["digits/5/ufm/target.width=0.5"]),
        ({"source": "{weights: [net.pt]}"}, ["digits/5/ufm/weights=net"]),
        (
            {"method": "[scratch, ufm]", "transfer": "{beta: [0, 1]}"},
            ["digits/5/scratch", "digits/5/ufm/beta=0.0", "digits/5/ufm/beta=1.0"],
        ),
        ({"transfer": "{meta_lr: [0.1, 0.2]}"}, ["digits/5/ufm"]),
    ],
)
def test_cells_are_named_by_what_has_a_list_and_is_read(parts, names):
    assert cells(grid(changed(**parts))) == names


def test_options_without_an_effect_on_hint_are_noted():
    """Only stage 2 with `distil` reads them, but they make other runs."""
    one = changed(method="hint", source="{weights: net.pt}", options="{temperature: [2.0, 5.0]}")
    rule = "options.temperature has no effect on hint without options.distil: true, but gives its runs other keys"
    (note,) = set(read(grid(one)).notes)
    assert note == f"sweep.yaml:3: note: {rule}; leave it out, or add `distil: true`"
    assert read(grid(one.replace("temperature", "distil: true, temperature"))).notes == ()
    assert read(grid(one.replace("method: hint", "method: [hint, distillation]"))).notes == ()
    both = changed(options="{lambda_last: 2.0}", source="{weights: net.pt}")
    told = read(grid("{method: hint}", "{method: hint, variant: soft, options: {distil: true}}", head=f"run: {both}"))
    assert told.notes == ()  # a default of both


def test_a_list_that_no_method_reads_is_noted(capsys):
    one = "{data: {name: digits, samples_per_class: 5}, method: scratch, seed: 0, transfer: {beta: [0.1, 0.5]}}"
    note = "sweep.yaml:3: note: scratch does not read transfer.beta, whose 2 values make one cell"
    assert read(grid(one)).notes == (note,)
    assert main(["sweep.yaml", "--plan"]) == 0
    assert note in capsys.readouterr().err
    assert (
        read(grid(one.replace("scratch", "[scratch, ufm]").replace("seed", "source: {weights: net.pt}, seed"))).notes
        == ()
    )
    assert read(grid(one.replace("[0.1, 0.5]", "0.1"))).notes == ()
    both = grid("{method: scratch}", "{method: ufm}", head=f"run: {changed(transfer='{beta: [0.1, 0.5]}')}")
    assert read(both).notes == ()  # a default of both


@pytest.mark.parametrize(
    ("seed", "seeds"),
    [("7", [7]), ("[7, 3, 7]", [7, 3]), ("{from: 2, to: 4}", [2, 3, 4]), ("[9, {from: 0, to: 1}]", [9, 0, 1])],
)
def test_seeds_are_a_number_a_list_or_a_range(seed, seeds):
    assert [run.seed for run in read(grid(changed(seed=seed))).runs.values()] == seeds


def test_blocks_merge_with_the_defaults_setting_by_setting():
    (run,) = read(grid(changed(training="{lr: 0.2}"), head="run: {training: {epochs: 3, lr: 0.5}}")).runs.values()
    assert (run.training.epochs, run.training.lr, run.training.momentum) == (3, 0.2, 0.9)


def test_lists_may_stand_in_the_defaults():
    assert len(keys(grid("{method: [scratch, ufm]}", head=f"run: {changed(seed='[0, 1, 2]')}"))) == 2 * 3


# identities


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (UFM, "{seed: 0, source: {weights: net.pt}, method: ufm, data: {samples_per_class: 5, name: digits}}"),
        (UFM, changed(training="{epochs: 200}", transfer="{beta: 0.5, pairs: all}")),
        (UFM, changed(transfer="{meta_lr: 3}")),
        (DIGITS, changed(DIGITS, transfer="{beta: 3}", source="{weights: net.pt, width: 2}")),
        (DIGITS, changed(DIGITS, source="{weights: not_there.pt}")),
        (changed(seed="{from: 0, to: 3}"), changed(seed="[3, 2, 1, 0]")),
        (changed(training="{lr: 1e-1}"), changed(training="{lr: 0.1}")),
        (changed(name="digits"), changed(data="{name: digits, samples_per_class: 5, title: A}")),
    ],
    ids=["order", "defaults", "meta", "scratch", "unread weights", "seeds", "notation", "title"],
)
def test_the_same_runs_have_the_same_keys(one, other):
    assert keys(grid(one)) == keys(grid(other))


def test_the_defaults_of_run_and_a_blocks_own_settings_are_one():
    one = read(grid(DIGITS, head="run: {training: {epochs: 3}}"))
    assert set(one.runs) == keys(grid(changed(DIGITS, training="{epochs: 3}")))


def test_an_alias_is_what_it_stands_for():
    text = grid(changed(training="&t {epochs: 3}", seed="[0, 1]"), changed(DIGITS, training="*t"))
    assert len(keys(text)) == 3
    assert {run.training.epochs for run in read(text).runs.values()} == {3}


def test_runs_asked_for_twice_are_one():
    assert len(keys(grid(changed(DIGITS, seed="[0, 1]"), changed(DIGITS, seed="[1, 2]")))) == 3


def test_reading_twice_gives_the_same_sweep():
    text = grid(changed(seed="{from: 0, to: 9}", transfer="{beta: [0.1, 0.2]}"))
    assert list(read(text).runs.items()) == list(read(text).runs.items())


def test_weights_of_the_same_content_are_the_same_and_others_are_not():
    Path("copy.pt").write_bytes(b"weights")
    Path("other.pt").write_bytes(b"other")
    (run,) = read(grid(UFM)).runs.values()
    # printf weights | sha256sum
    assert run.source.sha256 == "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    assert keys(grid(changed(source="{weights: copy.pt}"))) == {run.key}
    assert keys(grid(changed(source=f"{{weights: net.pt, sha256: {run.source.sha256}}}"))) == {run.key}
    assert keys(grid(changed(source="{weights: other.pt}"))) != {run.key}


# conflicts


def test_two_blocks_that_ask_for_a_cell_differently_are_refused_even_with_other_seeds():
    text = grid(changed(training="{lr: 0.1}"), changed(training="{lr: 0.2, epochs: 3}", seed="1"))
    assert problems(text) == (
        "sweep.yaml:4: a cell's runs must differ in their seed alone, got digits/5/ufm as at sweep.yaml:3 "
        "but with training.epochs 3, not 200, training.lr 0.2, not 0.1; give one block a `variant:`",
    )


def test_a_variant_makes_them_two_cells():
    assert cells(grid(UFM, changed(training="{lr: 0.2}", variant="fast"))) == ["digits/5/ufm", "digits/5/ufm/fast"]


def test_one_run_in_two_cells_is_refused():
    (told,) = problems(grid(UFM, changed(variant="again")))
    assert told.startswith("sweep.yaml:4: a run must be in one cell, got digits/5/ufm/again equal to digits/5/ufm at")


# methods of one's own


def test_a_method_of_ones_own_has_options_that_others_do_not_see():
    Path("my methods.py").write_text(METHOD)
    text = grid(
        changed(method="[scratch, mine]", options="{strength: [2, 3]}"),
        head="methods: ['my methods.py']\nrun: {options: {steps: 4}}",
    )
    sweep = read(text)
    assert sweep.methods == (Path("my methods.py"),)
    assert list(dict.fromkeys(sweep.cells.values())) == [
        "digits/5/scratch",
        "digits/5/mine/strength=2",
        "digits/5/mine/strength=3",
    ]
    assert [run.options for run in sweep.runs.values()] == [
        {},
        {"strength": 2.0, "steps": 4},
        {"strength": 3.0, "steps": 4},
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("{strenght: 2}", "options.strenght must be an option of mine; did you mean strength?"),
        ("{steps: 2.5}", "options.steps must be of the type of its default 3, int, in mine, got 2.5"),
        ("{strength: true}", "options.strength must be of the type of its default 1.0, float, in mine, got true"),
    ],
)
def test_options_are_checked_against_the_methods_defaults(options, told):
    Path("wrong.py").write_text(METHOD)
    (line,) = problems(grid(changed(method="mine", options=options), head="methods: [wrong.py]"))
    assert line.startswith(f"sweep.yaml:4: {told}")


TAKEN = """
from l2t_ray.methods import Method
from l2t_ray.registry import register

register(Method("fresh"))
register(Method("l2t_ww", uses=frozenset({"source", "transfer"})))
"""


def test_a_file_that_takes_a_built_in_methods_name_is_refused_at_its_line_and_leaves_no_trace():
    before = dict(registry.METHODS)
    Path("taken.py").write_text(TAKEN)
    for _ in range(2):  # the second reading of the file, too
        (line,) = problems(grid(DIGITS, head="methods: [taken.py]"))
        law = "register must not be given the name of a built-in method"
        assert line == f"sweep.yaml:2: taken.py: {law}, got 'l2t_ww'; choose another"
    assert before == registry.METHODS
    assert "fresh" not in registry.CODE


def test_a_methods_file_may_be_loaded_from_two_places_and_what_it_holds_is_known():
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Path(folder, "mine.py").write_text(f"{METHOD}# in {folder}\n")
        read(grid(changed(method="mine"), head=f"methods: [{folder}/mine.py]"))
        content = Path(folder, "mine.py").read_bytes()
        assert registry.CODE["mine"] == {"mine.py": hashlib.sha256(content).hexdigest()[:12]}


# sources that are not there yet


RECIPE = "{{out: {0}.pt, source: {{arch: resnet20, width: 0.125}}, data: {{name: digits}}, seed: {1}}}"


def test_two_sources_that_are_not_there_yet_are_two_and_their_keys_provisional():
    for seed, name in enumerate("ab"):
        Path(f"{name}.yaml").write_text(RECIPE.format(name, seed))
    sources = [f"{{arch: resnet20, width: 0.125, weights: {name}.pt, train: {name}.yaml}}" for name in "ab"]
    blocks = [changed(method="ufm", source=source, variant=name) for source, name in zip(sources, "ab", strict=True)]
    provisional = read(grid(*blocks))
    assert [*provisional.cells.values()] == ["digits/5/ufm/a", "digits/5/ufm/b"]
    assert {*provisional.sources} == {"a.pt", "b.pt"}
    for name in "ab":
        Path(f"{name}.pt").write_text(name)
    final = read(grid(*blocks))
    assert [run.source.sha256 for run in final.runs.values()] == [hashlib.sha256(n.encode()).hexdigest() for n in "ab"]
    assert final.sources == {}
    assert not {*final.runs} & {*provisional.runs}


def test_one_source_that_is_not_there_under_two_names_of_a_cell_is_still_refused():
    (line,) = [
        line
        for line in problems(grid(changed(source="{weights: x.pt}"), changed(source="{weights: x.pt}", variant="v")))
        if "a run must be in one cell" in line
    ]
    assert "got digits/5/ufm/v equal to digits/5/ufm" in line


def test_what_runs_keep_is_no_part_of_a_cell_and_two_blocks_may_ask_for_it():
    keeping = changed(record="{weights: last}"), changed(record="{predictions: true}")
    assert cells(grid(*keeping)) == ["digits/5/ufm"]
