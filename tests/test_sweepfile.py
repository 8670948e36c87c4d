"""Sweep files: every mistake at its line, blocks into cells, the same run under one key however it is written."""

import json
import random
import tarfile
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l2t_ray import digests, registry, yaml_lines
from l2t_ray.config import Run
from l2t_ray.data_sets import TRAIN_IMAGES_PER_CLASS
from l2t_ray.errors import InputError
from l2t_ray.sweepfile import read_sweep

SHARED = Path(__file__).parents[2] / "shared"
METHOD = """
from l2t_ray.methods import Method
from l2t_ray.registry import register

register(Method("mine", uses=frozenset({"transfer.beta"}), options={"strength": 1.0, "steps": 3}))
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry.load()
    monkeypatch.setattr(registry, "METHODS", dict(registry.METHODS))
    Path("net.pt").write_bytes(b"weights")


def read(text, **selection):
    path = Path("sweep.yaml")
    path.write_text(textwrap.dedent(text).lstrip("\n"))
    return read_sweep(path, **selection)


def grid(*blocks, head=""):
    """A file with these blocks; the first is in line 3 if there is no head."""
    head = textwrap.dedent(head).strip()
    return "\n".join(["sweep: s", *([head] if head else []), "grid:", *(f"- {block}" for block in blocks)])


def cells(text, **selection):
    sweep = read(text, **selection)
    return list(dict.fromkeys(sweep.cells.values()))


def keys(text, **selection):
    return set(read(text, **selection).runs)


def problems(text, **selection):
    with pytest.raises(InputError) as caught:
        read(text, **selection)
    return caught.value.problems


DIGITS = "{data: {name: digits, samples_per_class: 5}, method: scratch, seed: 0}"
UFM = "{data: {name: digits, samples_per_class: 5}, method: ufm, source: {weights: net.pt}, seed: 0}"


def changed(block=UFM, **parts):
    """The block with these parts in the place of its own."""
    for name, value in parts.items():
        start = block.find(f"{name}: ")
        if start < 0:
            block = f"{block[:-1]}, {name}: {value}}}"
            continue
        start, depth = start + len(name) + 2, 0
        for end in range(start, len(block)):
            depth += (block[end] in "[{") - (block[end] in "]}")
            if depth < 0 or (depth == 0 and block[end] == ","):
                break
        block = f"{block[:start]}{value}{block[end:]}"
    return block


# gate


TRACED = (
    "{data: {name: digits, samples_per_class: 5}, method: l2t_www, source: {weights: net.pt}, seed: [0, 1], trace: T}"
)


@pytest.mark.parametrize(
    ("block", "law"),
    [
        (changed(TRACED, trace="{weights: ['conv.0.weight[1,']}"), "trace.weights must match"),
        (changed(TRACED, trace="{gamma: ['3-']}"), "trace.gamma must match"),
        (changed(TRACED, trace="{gamma: ['2-4[1,3,0]']}"), "trace.gamma must match"),
        (changed(TRACED, trace="{gamma: ['2-4', '2-4']}"), "trace.gamma must name each one once"),
        (
            changed(TRACED, trace="{weights: [conv.99.weight]}"),
            "must name parameters of the target, got 'conv.99.weight'",
        ),
        (
            changed(TRACED, trace="{weights: ['conv.0.weight[64,0,1,1]']}"),
            "below [64, 3, 3, 3] for conv.0.weight",
        ),
        (changed(TRACED, trace="{weights: ['fc.weight[3,512]']}"), "have an index below [classes, 512] for fc.weight"),
        (changed(TRACED, trace="{lambda: 1}"), "trace.lambda must be true or false, got 1"),
        (changed(TRACED, trace="{every: 0}"), "trace.every must be >= 1, got 0"),
        (changed(TRACED, trace="{lamda: true}"), "'lamda' must be a setting of trace; did you mean lambda?"),
        (
            changed(TRACED, trace="{lambda: true}", method="ufm"),
            "trace.lambda must stand with a method that learns 'where'",
        ),
        (
            changed(TRACED, trace="{gamma: ['2-4']}", method="l2t_ww"),
            "a method that learns 'which', got l2t_ww; remove it",
        ),
        (
            changed(TRACED, trace="{gamma: ['2-4', '2-1[0,1,1]']}", transfer="{pairs: [[2, 4]]}"),
            "trace.gamma must name pairs of transfer.pairs, 2-4, got '2-1'",
        ),
    ],
    ids=[
        "index", "pair", "grid", "twice", "parameter", "entry", "of-classes", "type", "every", "name", "no-where",
        "no-which", "unmatched",
    ],
)  # fmt: skip
def test_a_trace_that_cannot_be_is_told(block, law):
    (told,) = problems(grid(block))
    assert law in told


def test_a_trace_belongs_to_runs_and_is_no_part_of_their_keys():
    plain, wanted = changed(TRACED, trace="{}"), changed(TRACED, trace="{lambda: true, weights: [fc.bias]}", seed="1")
    sweep = read(grid(plain, wanted))
    assert [run.traced for run in sweep.runs.values()] == [(), ("lambda", "theta.fc.bias")]
    assert set(sweep.runs) == keys(grid(plain))
    assert set(sweep.cells.values()) == {"digits/5/l2t_www"}  # the lists of a trace make no cells
    assert [run.key for run in sweep.runs.values()] == [Run(**run.model_dump()).key for run in sweep.runs.values()]
    chosen = read(grid(plain, wanted), where=["seed=1"])
    assert [run.traced for run in chosen.runs.values()] == [("lambda", "theta.fc.bias")]


def test_one_trace_for_all_methods_is_as_much_as_each_has():
    block = changed(
        TRACED, method="[scratch, l2t_ww, l2t_www]", trace="{gamma: ['2-4'], omega: true, every: 5}", seed="0"
    )
    traced = {run.method: run.traced for run in read(grid(block)).runs.values()}
    assert traced == {"scratch": (), "l2t_ww": ("omega@5",), "l2t_www": ("gamma.2-4@5", "omega@5")}


def test_two_traces_of_one_run_are_refused():
    one, other = (changed(TRACED, trace=f"{{every: {n}, lambda: true}}") for n in (1, 2))
    (told,) = problems(grid(one, changed(other, seed="[1, 2]")))
    assert told == (
        "sweep.yaml:4: a run must have one trace, got two for digits/5/l2t_www seed 1, the first at sweep.yaml:3; "
        "ask for all of it in one block"
    )


def test_ten_mistakes_are_told_at_once_each_at_its_line():
    told = problems(
        """
        sweep: ten mistakes
        run:
          source: {weights: missing.pt}
          training: {epochs: "200"}
        grid:
          - data:
              name: stl10
              samples_per_class: [5, 600]
            method: [scratch, ufm, l2t_wwww]
            seed: {from: 29, to: 0}
            transfer:
              beta: -1
              pairs: [[0, 0], [3, 4]]
          - data: {name: digits, sample_per_class: 5, samples_per_class: 5}
            method: scratch
            seed: 0
          - data: {name: digits, samples_per_class: 5}
            method: scratch
            seed: 7
            training: {lr: 0.01}
        """
    )
    assert [line.partition(";")[0] for line in told] == [
        'sweep.yaml:1: sweep must match ^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$, got "ten mistakes"',
        "sweep.yaml:3: source.weights must be a file, from the working folder, got 'missing.pt'",
        'sweep.yaml:4: training.epochs must be a whole number, got "200"',
        "sweep.yaml:8: data.samples_per_class must be <= 500 for stl10, got 600",
        f"sweep.yaml:9: method must be one of {', '.join(registry.METHODS)}, got 'l2t_wwww'",
        'sweep.yaml:10: seed must have from <= to, got {"from": 29, "to": 0}',
        "sweep.yaml:12: transfer.beta must be >= 0, got -1",
        "sweep.yaml:13: transfer.pairs must name source levels 0 to 2 of resnet32 and target levels 0 to 4 of vgg9, "
        "got [3, 4]",
        "sweep.yaml:14: 'sample_per_class' must be a setting of data",
        "sweep.yaml:17: a cell's runs must differ in their seed alone, got digits/5/scratch as at sweep.yaml:14 "
        "but with training.lr 0.01, not 0.1",
    ]
    assert all("; " in line for line in told)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("5", "a block must be a map of settings, got 5"),
        ("{}", "data.name must be given"),
        (changed(beta="1"), "did you mean transfer.beta?"),
        (changed(transfer="{batch_size: 1}"), "did you mean training.batch_size?"),
        (changed(transfer="[1]"), "transfer must be a map of settings, got [1]"),
        (changed(transfer="null"), "transfer must be a map of settings, got null"),
        (changed(methud="ufm"), "did you mean method?"),
        (changed(name="cifar11"), "did you mean cifar10?"),
        (changed(method="unf"), "did you mean ufm?"),
        (changed(method="[]"), "method must have at least one value"),
        (changed(method="{a: 1}"), 'method must be a text, got {"a": 1}'),
        (changed(seed="x"), "seed must be a whole number"),
        (changed(seed="{from: 1}"), "seed must be a whole number, a list of them, or {from: FIRST, to: LAST}"),
        (changed(seed="{from: -1, to: 1}"), "seed must be >= 0, got -1"),
        (changed(seed="[1, 2.5]"), "seed must be a whole number, got 2.5"),
        (changed(name="cifar10", samples_per_class="5001"), "must be <= 5000 for cifar10, got 5001"),
        (changed(name="cifar100", samples_per_class="501"), "must be <= 500 for cifar100, got 501"),
        (changed(samples_per_class="88"), "must be <= 87 for digits, got 88"),
        (changed(samples_per_class="{'*': 88, '1': 3}"), "must be <= 87 for digits, got 88"),
        (changed(samples_per_class="{'*': 8, '11': 3}"), "must name classes of digits, got '11'"),
        (changed(samples_per_class="{'1': 3}"), "must have every class, got none of 0, 2, 3, 4, 5, 6, 7, 8, 9"),
        (changed(samples_per_class="{'*': 0}"), "data.samples_per_class must be >= 1, got 0"),
        (changed(data="{name: digits, samples_per_class: 5, classes: ['1', 'x']}"), "got 'x'"),
        (changed(data="{name: digits, samples_per_class: 5, classes: ['1', '1']}"), "name each one once"),
        (changed(data="{name: digits, samples_per_class: 5, path: x}"), "data.path must stand with image_folder"),
        (changed(data="{name: image_folder, samples_per_class: 5}"), "data.path must name the folder or tar"),
        (changed(data="{name: image_folder, samples_per_class: 5, path: x}"), "data.path must be a folder or a tar"),
        (
            changed(data="{name: image_folder, samples_per_class: 5, path: net.pt}"),
            "data.path must be a folder or a tar",
        ),
        (changed(data="{name: tiny_imagenet, samples_per_class: 5}"), "data.path must name the folder or tar"),
        (changed(source="{}"), "source.weights must be given for ufm, got none"),
        (changed(source="{weights: .}"), "source.weights must be a file"),
        (changed(source="{weights: nets.pt}"), "python -m l2t_ray.pretrain"),
        (changed(source="{weights: net.pt, sha256: ab}"), "sha256 must be that of net.pt"),
        (changed(source="{weights: net.pt, arch: resnet33}"), "did you mean resnet32?"),
        (changed(options="{steps: 1}"), "options.steps must be an option of ufm"),
        (
            changed(options="{steps: [[1]]}"),
            "options.steps must be true or false or a whole number or a number or a text",
        ),
        (changed(transfer="{beta: 1e400}"), "transfer.beta must be a finite number"),
        (changed(transfer="{beta: '0.5'}"), "remove the quotes"),
        (changed(transfer="{pairs: diagonal}"), "must be one of all, one_to_one, single or a list"),
        (changed(transfer="{pairs: [0, 1]}"), "transfer.pairs must be a list, got 0"),
        (
            changed(target="{arch: vit}", training="{precision: bf16}"),
            "precision must be float32, tf32 or float64 for vit",
        ),
        (changed(augment="{flip: yes}"), 'augment.flip must be true or false, got "yes"'),
        (changed(variant="a/b"), "variant must match"),
        (changed(data="{name: 1, samples_per_class: 5}"), "data.name must be one of"),
    ],
)
def test_a_block_with_a_mistake_is_told_at_its_line(block, told):
    found = problems(grid(DIGITS, block))
    assert any(told in line for line in found), found
    assert all(line.startswith("sweep.yaml:4: ") and "; " in line for line in found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "sweep.yaml:1: must be a map of sweep, methods, run, grid, design, search, execution, got null"),
        ("- a", "sweep.yaml:1: must be a map"),
        ("sweep: s", "sweep.yaml:1: grid must be a list of blocks"),
        ("sweep: s\ngrid: []", "sweep.yaml:2: grid must be a list of blocks"),
        ("sweep: s\ngrid: {}", "sweep.yaml:2: grid must be a list of blocks"),
        (f"grid:\n- {DIGITS}", "sweep.yaml:1: sweep must be given"),
        (f"sweep: ..\ngrid:\n- {DIGITS}", "sweep.yaml:1: sweep must match"),
        (f"sweep: s\ngird:\n- {DIGITS}", "did you mean grid?"),
        (f"sweep: s\nseed: 1\ngrid:\n- {DIGITS}", "write it below `run:`"),
        (f"sweep: s\nrun: 3\ngrid:\n- {DIGITS}", "sweep.yaml:2: a block must be a map"),
        (f"sweep: s\nrun: {{variant: x}}\ngrid:\n- {DIGITS}", "'variant' must be a setting of a run"),
        (f"sweep: s\ngrid:\n- {DIGITS}\nexecution: 3", "sweep.yaml:4: execution must be a map"),
        (f"sweep: s\ngrid:\n- {DIGITS}\nexecution: {{gpu_share: 0.15}}", "1 / k for a whole number k"),
        (f"sweep: s\ngrid:\n- {DIGITS}\nexecution: {{retry: 3}}", "did you mean retries?"),
        (f"sweep: s\ngrid:\n- {DIGITS}\nexecution: {{pack: 0}}", "execution.pack must be auto or >= 1, got 0"),
        (f"sweep: s\nmethods: [no.py]\ngrid:\n- {DIGITS}", "sweep.yaml:2: no.py: methods: names a Python file"),
        (f"sweep: s\nmethods: [os]\ngrid:\n- {DIGITS}", "methods must be Python files, got 'os'"),
        (f"sweep: s\nmethods: bad.py\ngrid:\n- {DIGITS}", "sweep.yaml:2: methods must be a list"),
        (f"sweep: s\nmethods: [bad.py]\ngrid:\n- {DIGITS}", "sweep.yaml:2: bad.py: cannot be imported"),
    ],
)
def test_a_file_with_a_mistake_is_told_at_its_line(text, told):
    Path("bad.py").write_text("1 / 0")
    found = problems(text)
    assert any(told in line for line in found), found


def test_the_limits_of_the_data_sets_are_those_of_the_data():
    assert TRAIN_IMAGES_PER_CLASS == {
        "cifar10": 5000,
        "cifar100": 500,
        "stl10": 500,
        "tiny_imagenet": 500,
        "digits": 87,
    }


# gate: YAML


def test_a_repeated_key_is_told_with_both_lines():
    told = problems(f"sweep: s\ngrid:\n- {DIGITS}\nsweep: t")
    assert told == ("sweep.yaml:4: a key must stand once, got 'sweep' again after sweep.yaml:1; remove one",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"sweep: [", "must be YAML"),
        (b"\tsweep: s", "must be YAML"),
        (b"sweep: s\n---\nsweep: t", "must be YAML"),
        (b"sweep: \xff", "sweep.yaml:1: must be UTF-8, got byte 0xff"),
        (b"sweep: s\x00", "must be YAML"),
        (b"sweep: !!python/object/apply:os.system [ls]", "sweep.yaml:1: must be a text, a number"),
        (b"sweep: &a [*a]", "an alias contains itself"),
        (b"[" * 2_000, "must be nested less deeply"),
        (b"? [a]\n: b", "a key must be a text"),
        (b"sweep: " + b"x" * (1 << 20), "must have at most 1048576 bytes"),
        (b"sweep: " + b"9" * 10_000, "as tag:yaml.org,2002:int"),
    ],
    ids=["open", "tab", "two", "latin", "null", "tag", "cycle", "deep", "key", "large", "digits"],
)
def test_what_is_no_readable_yaml_is_refused(content, told):
    Path("sweep.yaml").write_bytes(content)
    with pytest.raises(InputError, match=told.replace(".", r"\.")):
        read_sweep(Path("sweep.yaml"))


@pytest.mark.parametrize("escape", ["\\0", "\\e", "\\uD800"])
def test_a_text_that_is_in_no_path_is_refused_wherever_it_stands(escape):
    wherever = (f'execution: {{storage: "a{escape}"}}', f'"exe{escape}cution": {{}}', f'methods: ["a{escape}.py"]')
    for more in wherever:
        told = problems(f"sweep: s\ngrid:\n- {DIGITS}\n{more}")
        assert any("sweep.yaml:4: a text must have no control characters" in problem for problem in told)
        assert all(problem.isprintable() for problem in told)


def test_a_bomb_of_aliases_is_refused_before_it_is_written_out():
    levels = [f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]" for n in range(1, 12)]  # 9^11 values
    with pytest.raises(InputError, match="at most 100000 values"):
        read("\n".join(["b0: &b0 [1]", *levels]))


@pytest.mark.parametrize(("path", "told"), [("none.yaml", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_told(path, told):
    with pytest.raises(InputError, match=told):
        read_sweep(Path(path))


def test_plain_scalars_follow_yaml_1_2():
    item, told = yaml_lines.parse_yaml("[1e-4, no, 010, 1:30, 2020-01-01, 0x1f, .inf, ~, 'a', true]", "f")
    assert item.plain() == [1e-4, "no", 10, "1:30", "2020-01-01", 31, float("inf"), None, "a", True]
    assert told == []


def test_more_than_a_million_runs_are_refused_with_their_number_before_they_are_made():
    started = time.process_time()
    told = problems(grid(changed(seed="{from: 0, to: 2147483646}", samples_per_class="[1, 2]")))
    assert told == ("sweep.yaml: must have at most 1,000,000 runs, got 4,294,967,294; shorten the longest lists",)
    assert time.process_time() - started < 1


# basics: expansion


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
    sweep = read(
        """
        sweep: paper_grid
        run:
          source: {arch: resnet32, weights: net.pt}
          training: {epochs: 200}
        grid:
          - data: {name: stl10, samples_per_class: [5, 10, 30, 50, 100]}
            method: [scratch, ufm, l2t_ww, l2t_www]
            seed: {from: 0, to: 29}
        execution: {gpu_share: auto, pack: auto, retries: 2}
        """
    )
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


# overrides and selection


def test_an_override_replaces_the_setting_everywhere():
    text = grid(changed(seed="[0, 1]", training="{epochs: 7, lr: 0.5}"), DIGITS, head="run: {training: {epochs: 9}}")
    sweep = read(text, overrides=["training.epochs=2", "run.seed=[4]", "execution.retries=5", "sweep=t"])
    assert {(run.training.epochs, run.seed) for run in sweep.runs.values()} == {(2, 4)}
    assert [run.training.lr for run in sweep.runs.values()] == [0.5, 0.1]
    assert (sweep.execution.retries, sweep.name) == (5, "t")


def test_an_override_may_be_a_section_a_map_or_a_list():
    text = grid(changed(DIGITS, training="{epochs: 7, lr: 0.5}"))
    overrides = ["training={lr: 1e-2, momentum: 0}", "samples_per_class={'*': 3}", "seed={from: 0, to: 4}"]
    sweep = read(text, overrides=overrides)
    (run, *rest) = sweep.runs.values()
    assert (run.training.epochs, run.training.lr, run.training.momentum) == (7, 0.01, 0.0)
    assert (run.data.samples_per_class, len(rest)) == ({"*": 3}, 4)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.epochs", "must be dotted.key=VALUE"),
        ("training.epoch=1", "did you mean epochs?"),
        ("training.epochs=0", "training.epochs must be >= 1, got 0"),
        ("execution.pak=1", "did you mean pack?"),
        ("width=1", "'width' must be a setting of a run"),
        ("seed=[", "must be YAML"),
        ("=", "must be a setting of a run"),
    ],
)
def test_a_mistake_in_an_override_is_told_with_the_argument(override, told):
    (line,) = problems(grid(DIGITS), overrides=[override])
    assert line.startswith(f"--set {override}: ")
    assert told in line


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (["method=scratch"], 2 * 2 * 2),
        (["method=scratch", "method=ufm"], 2 * 2 * 2 * 2),
        (["data.name=digits", "samples_per_class=4"], 2 * 2),
        (["seed=1"], 2 * 2 * 2),
        (["cell=digits/4/ufm"], 2),
        (["cell=digits/*"], 8),
        (["transfer.beta=0.5", "seed=0"], 8),
    ],
)
def test_where_keeps_what_matches(where, count):
    text = grid(changed(name="[digits, stl10]", samples_per_class="[4, 5]", method="[scratch, ufm]", seed="[0, 1]"))
    everything = read(text)
    chosen = read(text, where=where)
    assert len(everything.runs) == 16
    assert len(chosen.runs) == count
    assert chosen.runs.items() <= everything.runs.items()
    assert chosen.cells.items() <= everything.cells.items()


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("metod=ufm", "did you mean method?"),
        ("width=1", "write source.width or target.width"),
        ("method=unf", "got none; method is one of scratch, ufm"),
        ("seed=9", "got none; seed is one of 0"),
        ("seed=true", "got none; seed is one of 0"),
        ("cell=x", "got none; cell is one of digits/5/scratch, digits/5/ufm"),
        ("method", "must be KEY=VALUE"),
        ("data=digits", "write data.name or data.path or"),
    ],
)
def test_a_mistake_in_where_is_told_with_the_argument(where, told):
    (line,) = problems(grid(changed(method="[scratch, ufm]")), where=[where])
    assert line.startswith(f"--where {where}: ")
    assert told in line


# contents of images


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


def test_a_renamed_image_is_another_run():
    images(Path("pets"), cat=3, dog=2)
    before = keys(grid(folder_block("pets")))
    Path("pets/train/cat/0.png").rename("pets/train/dog/9.png")
    assert keys(grid(folder_block("pets"))) != before


def test_a_folder_has_no_more_images_than_lie_in_it():
    images(Path("pets"), cat=3, dog=2)
    assert problems(grid(folder_block("pets", 3))) == (
        "sweep.yaml:3: data.samples_per_class must be <= 2 for image_folder, got 3; ask for fewer",
    )
    assert len(keys(grid(folder_block("pets", "{cat: 3, dog: 1}")))) == 1
    assert "did you mean dog?" in problems(grid(folder_block("pets", "{cat: 3, dogs: 1}")))[0]


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


# speed and hostile input


def test_100_000_runs_are_read_in_3_seconds():
    lists = {"samples_per_class": "[5, 10, 20, 50, 100]", "method": "[scratch, ufm, l2t_ww, l2t_www]"}
    text = grid(changed(name="cifar10", seed="{from: 0, to: 4999}", **lists))
    started = time.process_time()
    sweep = read(text)
    assert time.process_time() - started < 3
    assert len(sweep.runs) == 100_000
    some = random.Random(0).sample(sorted(sweep.runs.items()), 200)
    assert all(type(run).model_validate(run.model_dump()).key == key for key, run in some)


WHOLE = f"""\
sweep: s
run:
  source: {{weights: net.pt}}
  training: {{epochs: 3}}
grid:
  - data: {{name: digits, samples_per_class: [5, {{'*': 3, '1': 2}}], classes: ['1', '2']}}
    method: [scratch, ufm]
    seed: {{from: 0, to: 2}}
    transfer: {{beta: [0.1, 0.5], pairs: [all, [[0, 1]]]}}
    variant: v
  - {DIGITS}
execution: {{gpu_share: 0.5, pack: 1}}
"""
ODD = [
    *("null", "[]", "{}", "-1", "1e999", "x", "''", "[[]]", "[null]", "{a: b}", "true", "!!x y", "*a", "&a [1]"),
    *("'\\ud800'", '"\\ud800"', "9" * 30, ".nan", "[[[0]]]", "{from: 1, to: x}", "- a", ":", "\t", "\n", "?"),
]


def problems_of(path, **selection):
    """What is told of a file, or what is wrong with the sweep that it gives."""
    try:
        sweep = read_sweep(path, **selection)
    except InputError as error:
        return [*error.problems]
    return [] if all(run.key == key for key, run in sweep.runs.items()) else ["wrong keys"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_done_to_a_file_it_is_read_or_refused(data):
    letters = [*WHOLE]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(letters) - 1))
        end = min(len(letters), start + data.draw(st.integers(0, 12)))
        letters[start:end] = data.draw(st.sampled_from(ODD) | st.text(max_size=4))
    path = Path("odd.yaml")
    path.write_bytes("".join(letters).encode(errors="surrogatepass"))
    for line in problems_of(path):
        assert line.startswith("odd.yaml:")
        assert "\n" not in line


LEAVES = [
    *("data.name", "data.samples_per_class", "data.classes", "data.path", "method", "seed", "transfer.pairs", "run"),
    *(
        "transfer.beta",
        "training",
        "options",
        "options.x",
        "source.weights",
        "execution",
        "execution.pack",
        "sweep",
        "",
    ),
]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(LEAVES), st.sampled_from(ODD))
def test_whatever_is_overridden_it_is_read_or_refused(name, value):
    path = Path("whole.yaml")
    path.write_text(WHOLE)
    assert "wrong keys" not in problems_of(path, overrides=[f"{name}={value}"])


def test_the_file_that_is_mutated_is_whole():
    path = Path("whole.yaml")
    path.write_text(WHOLE)
    assert (
        len(read_sweep(path).runs) == 3 * 2 * (1 + 2 * 2) + 1
    )  # seeds, samples, (scratch, and ufm by beta and pairs), and one
