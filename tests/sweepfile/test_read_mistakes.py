"""Sweep files: every mistake at its line, and what is no YAML."""

from dataclasses import replace
from pathlib import Path

import pytest

from l2t_ray import registry
from l2t_ray.errors import InputError
from l2t_ray.registry import DATA_SETS
from l2t_ray.sweepfile import yaml_lines
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.source_file import read_pretraining
from tests.support.sweepfiles import DIGITS, changed, grid, problems, read

pytestmark = pytest.mark.usefixtures("sweep_folder")


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
        (
            "{training.epochs: 9}",
            "training.epochs must stand below `training:` here, got a dotted name; write `training: {epochs: 9}`",
        ),
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
        (changed(source="{weights: net.pt, arch: resnet33}"), "did you mean resnet34?"),
        (changed(options="{steps: 1}"), "options.steps must be an option of ufm"),
        (
            changed(options="{steps: [[1]]}"),
            "options.steps must be true or false or a whole number or a number or a text",
        ),
        (changed(transfer="{beta: 1e400}"), "transfer.beta must be a finite number"),
        (changed(transfer="{beta: '0.5'}"), "remove the quotes"),
        (changed(training="{epochs: 1_000}"), 'training.epochs must be a whole number, got "1_000"; write 1000'),
        (changed(training="{lr: NaN}"), 'training.lr must be a number, got "NaN"; correct it, or leave it out for 0.1'),
        (changed(seed="[]"), "seed must have at least one value, got []; add one"),
        (
            changed(data="{name: digits, samples_per_class: 5, sha256: ab}"),
            "data.sha256 must stand with image_folder or tiny_imagenet, got data.name digits",
        ),
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
        ("", "sweep.yaml:1: must be a map of sweep, trainer, metric, method, axis, data, methods, run, grid"),
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
    assert {name: facts.least_train for name, facts in DATA_SETS.items() if facts.least_train} == {
        "cifar10": 5000,
        "cifar100": 500,
        "stl10": 500,
        "tiny_imagenet": 500,
        "digits": 87,
    }


def test_what_is_required_is_not_to_be_left_out():
    for told in (problems(grid(changed(seed="[]"))), problems(grid(changed(method="[]")))):
        assert not any("leave it out" in line for line in told)


# gate: YAML


def test_a_merge_is_told_as_one():
    told = problems(grid(f"&b {DIGITS}", "{<<: *b, seed: 1}"))
    law = "a key must be a setting's name, got a merge (<<), which is not read"
    assert f"sweep.yaml:4: {law}; write the settings out, or put them in `run:`" in told
    assert yaml_lines.parse_yaml("{'<<': 1}", "f")[1] == []


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
        (b"# a\nsweep: s\x00", "sweep.yaml:2: a text must have no control characters and no half of a surrogate pair"),
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


@pytest.mark.parametrize("end", [r"\n", r"\N", r"\L"])
def test_a_problem_is_one_line_where_a_name_has_two(end):
    text = f'sweep: s\ngrid:\n- {DIGITS}\nrun: {{data: {{classes: ["a{end}b", "1"]}}}}'
    told = problems(text.replace("samples_per_class: 5", "samples_per_class: {'1': 3}"))
    assert any("got none of a" in problem for problem in told)
    assert all(problem.splitlines() == [problem] for problem in told)


def test_a_name_longer_than_a_disk_takes_is_told_at_its_line():
    long = "a" * 300
    for section in ("source", "target"):
        told = problems(grid(changed(**{"source": "{weights: net.pt}", section: f"{{weights: {long}}}"})))
        assert f"sweep.yaml:3: {section}.weights: {long}: the name must be shorter, got 'File name too long'" in told[0]
    (told,) = problems(grid(changed(data=f"{{name: image_folder, samples_per_class: 5, path: {long}}}")))
    assert "the name must be shorter" in told
    (told,) = problems(grid(changed()) + f"\nexecution: {{data_dir: {long}}}\n")
    assert told.startswith(f"sweep.yaml:4: execution.data_dir: {long}: the name must be shorter")
    (told,) = problems(grid(changed()) + "\nexecution: {data_dir: s3://bucket}\n")
    assert told.startswith('sweep.yaml:4: execution.data_dir must be on this machine, got "s3://bucket"; ')


PLACES = {
    "source.weights": (grid(changed(method="ufm", source="{weights: PATH}")), 3),
    "source.train": (grid(changed(method="scratch", source="{train: PATH}")), 3),
    "target.weights": (grid(changed(target="{weights: PATH}")), 3),
    "data.path": (grid(changed(data="{name: image_folder, samples_per_class: 5, path: PATH}")), 3),
    "methods": (grid(changed()) + "\nmethods: [PATH]\n", 4),
    "execution.data_dir": (grid(changed()) + "\nexecution: {data_dir: PATH}\n", 4),
    "search.best": (
        grid(changed()) + "\nsearch: {space: {lr: [1, 2]}, seeds: [9], validation_per_class: 1, best: PATH}\n",
        4,
    ),
    "trainer": ("sweep: s\nmetric: {name: a_percent, lower_is_better: true}\ntrainer: PATH\ngrid: []\n", 3),
    "trainer ": ("sweep: s\ntrainer: {function: a.py, files: [PATH]}\ngrid: []\n", 2),
}
HOME_TOO = PLACES | {
    "execution.storage": (grid(changed()) + "\nexecution: {storage: PATH}\n", 4),
    "search.storage": (PLACES["search.best"][0].replace("best:", "storage:"), 4),
}


@pytest.mark.parametrize("setting", PLACES)
@pytest.mark.parametrize("path", ["s3://bucket/file.py", "https://host/file.py"])
def test_a_path_must_be_on_this_machine(setting, path):
    text, line = PLACES[setting]
    law = f'{setting.strip()} must be on this machine, got "{path}"; copy it here, and write that path'
    if setting == "execution.data_dir":
        law = law.partition(";")[0]
    (told,) = [one for one in problems(text.replace("PATH", path)) if "on this machine" in one]
    assert told.startswith(f"sweep.yaml:{line}: {law}")


@pytest.mark.parametrize("setting", HOME_TOO)
def test_a_home_folder_is_written_out(setting, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    text, line = HOME_TOO[setting]
    law = "must be written out, because ~ is not expanded"
    told = problems(text.replace("PATH", "~/a.py"))
    assert f'sweep.yaml:{line}: {setting.strip()} {law}, got "~/a.py"; write /home/me/a.py' in told
    assert not any("got none" in one and setting in one for one in told)  # it is given


def test_a_name_may_begin_with_a_tilde():
    Path("~net.pt").write_bytes(Path("net.pt").read_bytes())
    assert len(read(grid(changed(method="ufm", source="{weights: ~net.pt}"))).runs) == 1


def test_a_folder_of_weights_is_told_with_the_files_in_it():
    Path("snapshot").mkdir()
    for name in ("config.json", "model.safetensors", "pytorch_model.bin"):
        Path("snapshot", name).touch()
    (told,) = problems(grid(changed(method="ufm", source="{weights: snapshot, train: s.yaml}")))
    rule = "source.weights must be a file, got the folder 'snapshot'"
    assert told == f"sweep.yaml:3: {rule}; name the file in it: model.safetensors, pytorch_model.bin"


@pytest.mark.parametrize(
    ("written", "remedy"),
    [("no", "write false"), ("OFF", "write false"), ("Yes", "write true"), ("on", "write true"),
     ("'true'", "remove the quotes"), ("maybe", "correct it, or leave it out for true")],
)  # fmt: skip
def test_yes_and_no_in_the_place_of_a_boolean_are_told_with_what_they_mean(written, remedy):
    law = f'augment.flip must be true or false, got "{written.strip(chr(39))}"'
    assert problems(grid(changed(augment=f"{{flip: {written}}}"))) == (f"sweep.yaml:3: {law}; {remedy}",)
    (told,) = problems(grid(changed()), overrides=[f"augment.flip={written}"])
    assert told.endswith(remedy)


def test_a_boolean_option_is_told_with_what_it_means(monkeypatch):
    scratch = registry.METHODS["scratch"]
    monkeypatch.setitem(registry.METHODS, "scratch", replace(scratch, options={"fast": True}))
    (told,) = problems(grid(changed(method="scratch", options="{fast: no}")))
    law = "options.fast must be of the type of its default True, bool, in scratch"
    assert told == f'sweep.yaml:3: {law}, got "no"; write false'


def test_the_log_of_an_interval_is_told_with_what_it_means():
    search = "search: {space: {lr: {low: 1, high: 2, log: no}}, seeds: [9], validation_per_class: 1}"
    assert any(told.endswith("; write false") for told in problems(grid(changed(), head=search)))


def test_a_text_with_the_end_of_its_line_is_told_with_its_sign():
    (told,) = problems(grid(changed()).replace("sweep: s", "sweep: >\n  s"))
    assert told.startswith("sweep.yaml:1: sweep must match ")
    assert told.endswith('got "s\\n"; write it without > or |, which add the end of a line')


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
    told = problems(grid(changed(seed="{from: 0, to: 2147483646}", samples_per_class="[1, 2]")))
    assert told == ("sweep.yaml: must have at most 1,000,000 runs, got 4,294,967,294; shorten the longest lists",)


# gate: another file than was meant


@pytest.mark.parametrize("name", ["quickstart", "quikstart.yaml", "sweeps/quick_start.yaml"])
def test_a_file_that_is_not_there_is_guessed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sweeps").mkdir()
    Path("sweeps/quickstart.yaml").write_text("sweep: quickstart\n")
    with pytest.raises(InputError, match=r"did you mean sweeps/quickstart\.yaml\?"):
        read_sweep(Path(name))


def test_a_source_networks_file_is_one_line_with_its_command(tmp_path):
    file = tmp_path / "source.yaml"
    file.write_text("out: w.pt\ndata: {name: digits}\nsource: {arch: resnet20}\ntraining: {epochs: 1}\n")
    with pytest.raises(InputError) as caught:
        read_sweep(file)
    assert caught.value.problems == (
        f"{file}: this is the file of a source network; train it: python -m l2t_ray.pretrain {file}",
    )


def test_a_sweep_given_as_a_source_is_one_line_with_its_command(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("sweep: x\ngrid: []\n")
    with pytest.raises(InputError) as caught:
        read_pretraining(file)
    assert caught.value.problems == (f"{file}: this is the file of a sweep; launch it: python -m l2t_ray.sweep {file}",)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("sweep: x\nrun:\n\u00a0 target: {width: 0.1}\n", 3, 1),
        ("sweep: x\nrun: {target: {width:\u00a00.1}}\n", 2, 22),
        ("sweep: x\ngrid:\n-\u2003method: scratch\n", 3, 2),
        ("sweep: x\nrun\u00a0: {}\n", 2, 4),
        ("sweep: x\nrun:\n  \u200btarget: {}\n", 3, 3),
    ],
)
def test_an_odd_space_is_told_where_it_stands(tmp_path, text, line, column):
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"odd\.yaml:{line}: .*U\+[0-9A-F]{{4}}\) in column {column}; replace it"):
        read_sweep(file)


def test_an_odd_space_in_a_text_or_comment_is_none_of_our_business(tmp_path):
    file = tmp_path / "fine.yaml"
    file.write_text("sweep: x  # :\u00a0b\nmethods: ['a\u00a0b.py']\n")
    with pytest.raises(InputError) as caught:
        read_sweep(file)
    assert not any("column" in problem for problem in caught.value.problems)
