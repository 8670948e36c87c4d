"""A trace asked of finished runs: trained again, put beside the result that counts, read by the report."""

import json

import pytest
import torch

from analysis.results.cells import make_cells
from analysis.results.runs import read_results
from analysis.results.traces import read_traces
from l2t_ray import models, sweep
from l2t_ray.data.streams import stream
from l2t_ray.ledger.ledger import Ledger
from tests.support.launches import OF_RAY, call

pytestmark = OF_RAY

FILE = """
sweep: NAME
run:
  data: {name: digits, samples_per_class: 2, classes: ['2', '3']}
  source: {arch: resnet20, width: 0.125, weights: small.pt}
  target: {width: 0.1}
  training: {epochs: 2, batch_size: 4, lr: 0.01}
grid:
  - {method: l2t_ww, seed: [0, 1]}
  - {method: l2t_ww, seed: SEED, trace: TRACE}
execution: {retries: 0, checkpoint_s: 0}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = models.build("resnet20", 0.125, 5)
    models.initialise(network, stream(9, "init"))
    torch.save(models.source_state(network), "small.pt")
    return tmp_path


def command(name, trace, *arguments, seed="0"):
    """Exit code, stdout, stderr."""
    (text,) = [FILE.replace("NAME", name).replace("SEED", seed).replace("TRACE", trace)]
    with open(f"{name}.yaml", "w") as file:  # noqa: PTH123
        file.write(text)
    return call(sweep.main, f"{name}.yaml", "--no-probe", *arguments)


def seen():
    """What the report sees: accuracies, series, notes."""
    results = read_results(["first"])
    traces = read_traces(results, make_cells(results))
    accuracies = results.runs.sort_values("seed")["test_accuracy_percent"].tolist()
    series = {trace.seed: sorted(set(trace.values["name"])) for trace in traces}
    return accuracies, series, [trace.note for trace in traces], results.notices


@pytest.mark.slow
def test_a_finished_run_is_trained_again_for_a_trace_that_it_lacks_and_its_result_stays(folder, ray_cluster):
    code, _, err = command("first", "{}")
    assert code == 0, err
    accuracies, series, _, _ = seen()
    assert series == {}

    code, out, err = command("first", "{lambda: true}", "--plan", "--json")
    assert "2 runs wanted, 2 finished, 1 of them to train again for the trace or file that they lack, 1 to train" in err
    assert json.loads(out)["cells"][0]["n_to_train"] == 1
    code, _, err = command("first", "{lambda: true}")
    assert code == 0, err
    pairs = [f"{m}-{n}" for m in range(3) for n in range(5)]
    after, series, notes, notices = seen()
    assert (after, notices) == (accuracies, ())  # one result a run, the first one
    assert series == {0: [f"lambda.{pair}" for pair in pairs]}
    assert notes == ["a repeated training with the same metrics"]
    assert "nothing to train" in command("first", "{lambda: true}")[2]

    # another sweep asks for more of the same run, and the first one loses nothing
    code, _, err = command("second", "{weights: ['fc.bias[1]']}")
    assert code == 0, err
    _, series, _, notices = seen()
    assert (series, notices) == ({0: [*(f"lambda.{pair}" for pair in pairs), "theta.fc.bias"]}, ())
    assert "nothing to train" in command("first", "{lambda: true}")[2]
    assert "nothing to train" in command("second", "{weights: ['fc.bias[1]']}")[2]
    kinds = [entry.kind for entry in Ledger("first").entries()]
    assert kinds.count("run") == 2

    code, out, err = command("first", "{weights: [conv.99.weight]}", seed="1")
    assert (code, out) == (2, "")
    assert "trace.weights must name parameters of the target, got 'conv.99.weight'" in err
