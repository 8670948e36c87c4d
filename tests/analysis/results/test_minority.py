"""The imbalanced class: which classes count, which cell is the thesis' Table 4, and the numbers in results.json."""

import json

import pytest

from analysis.report.evidence import gather
from analysis.report.numbers import summary_json
from analysis.results.cells import Cell, Condition
from analysis.results.minority import as_published
from analysis.results.published import MINORITY
from tests.support.ledgers import Logged, fill


@pytest.mark.parametrize(
    ("data", "samples", "is_thesis"),
    [
        ("stl10", "100,airplane=10", True),
        ("STL-10", "100,cat=10", True),
        ("stl10", "100,bird=50,car=10", False),
        ("stl10", "100,bird=10,car=10", False),
        ("stl10", "1000,car=10", False),
        ("stl10", "100,car=100", False),
        ("stl10", "car=10", False),
        ("stl10_of_mine", "100,car=10", False),
        ("cifar10", "100,cat=10", False),
    ],
)
def test_only_one_class_of_ten_images_among_hundreds_is_the_thesis_table_4(data, samples, is_thesis):
    cell = Cell(Condition(data, samples, ""), "scratch", {0: 1.0}, 1, (), {})
    assert (as_published(cell).condition.data == MINORITY) == is_thesis


def imbalanced(counts, **accuracies):
    """Two methods, six seeds; each class' accuracy rises by 1 per seed and by 10 for l2t_www."""
    label = ",".join([str(counts["*"]), *(f"{name}={n}" for name, n in counts.items() if name != "*")])
    return [
        Logged("stl10", label, method, seed, 50.0, params={"data.samples_per_class": json.dumps(counts)},
               curves={f"test_accuracy_class_{name}_percent": [(200, value + seed + 10 * (method == "l2t_www"))]
                       for name, value in accuracies.items()})
        for method in ("l2t_ww", "l2t_www")
        for seed in range(6)
    ]  # fmt: skip


def test_of_equally_small_classes_the_mean_counts_and_all_are_named(database):
    fill(database, "small", imbalanced({"*": 100, "cat": 10, "dog": 10, "ship": 50}, cat=20.0, dog=30.0, ship=90.0))
    evidence = gather()
    assert [cell.values[0] for cell in evidence.minority] == [25.0, 35.0]
    (table,) = evidence.minority_tables()
    note = "100,cat=10,dog=10,ship=50: the smallest classes are cat, dog, equally small; a run's value is their mean."
    assert note in table.notes
    assert evidence.reproductions == ()


def test_a_single_smallest_class_needs_no_note(database):
    fill(database, "small", imbalanced({"*": 100, "cat": 10, "ship": 50}, cat=20.0, ship=90.0))
    evidence = gather()
    assert [cell.values[0] for cell in evidence.minority] == [20.0, 30.0]
    assert "equally small" not in " ".join(evidence.minority_tables()[0].notes)


def test_a_class_without_a_value_leaves_no_mean_of_the_others(database):
    fill(database, "small", imbalanced({"*": 100, "cat": 10, "dog": 10}, cat=20.0))
    assert gather().minority == ()


def test_the_numbers_for_machines_have_the_smallest_class(database):
    fill(database, "small", imbalanced({"*": 100, "cat": 10}, cat=20.0))
    found = json.loads(json.dumps(summary_json(gather()), allow_nan=False))
    cells = {cell["method"]: cell for cell in found["minority"]}
    assert cells["l2t_www"]["values"] == {str(seed): 30.0 + seed for seed in range(6)}
    assert (cells["l2t_ww"]["mean"], cells["l2t_ww"]["samples_per_class"]) == (22.5, "100,cat=10")
    (pair,) = found["minority_comparisons"]
    assert (pair["a"], pair["b"], pair["difference"]) == ("l2t_www", "l2t_ww", 10.0)
    assert pair["mann_whitney"]["p"] == pytest.approx(2 / 924)  # all 6 above all 6: R: wilcox.test, exact
