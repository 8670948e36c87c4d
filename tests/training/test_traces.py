"""Traces: they change nothing, hold what the twins compute, and survive resumption, packs and merging."""

import base64
import io

import pandas as pd
import pytest
import torch

from analysis.results.traces import COLUMNS, _parse
from l2t_ray import registry
from l2t_ray.config import Augment, Data, Record, Run, Source, Target, Trace, Training, Transfer
from l2t_ray.data.augment import normalize
from l2t_ray.data.load import load_data
from l2t_ray.data.streams import stream
from l2t_ray.data.subsets import stratified_subset
from l2t_ray.errors import InputError
from l2t_ray.models import ResNet, initialise
from l2t_ray.training.learner import Learner
from l2t_ray.training.pack import look_at_start, train
from l2t_ray.training.trace_file import ARTIFACT, encode, merge
from tests.support import oracles

CPU = torch.device("cpu")
CLASSES = ("0", "1", "2")
ALL = {"weights": ("conv.0.weight[1,2,0,1]", "fc.bias"), "gamma": ("2-4[3,0,2]", "0-1"), "lambda": True, "omega": True}


class KillError(Exception):
    """What a test raises in the middle of a training."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    registry.load()
    return load_data(Data(name="digits", classes=CLASSES, samples_per_class=4), tmp_path_factory.mktemp("data"))


@pytest.fixture
def source():
    network = ResNet(20, 0.25, 5)
    initialise(network, stream(9, "init"))
    return network.requires_grad_(False).eval()


def run(method="l2t_www", seed=0, epochs=3, samples=4, precision="float32", transfer=None, **trace):
    return Run(
        data=Data(name="digits", classes=CLASSES, samples_per_class=samples),
        method=method,
        seed=seed,
        source=Source(arch="resnet20", width=0.25),
        target=Target(width=0.1),
        training=Training(epochs=epochs, batch_size=8, lr=0.01, precision=precision),
        augment=Augment(flip=False),
        transfer=Transfer(meta_lr=1e-3, **(transfer or {})),
        record=Record(evaluations=0),
        trace=Trace(**trace),
    )


def table(outcome):
    """What the analysis makes of an outcome's artifact: value by (name, index) and epoch."""
    values = _parse(base64.b64decode(outcome.artifacts[ARTIFACT]), "run")
    return values.pivot_table(index=["name", "index"], columns="epoch", values="value", sort=False)


def snapshots(runs, digits, source, states=None):
    found = []
    outcomes = train(runs, digits, source, device=CPU, states=states, on_epoch=lambda _, take: found.append(take()))
    return outcomes, found


# basics


def test_a_trace_changes_nothing_bitwise(digits, source):
    (plain,), without = snapshots([run()], digits, source)
    (traced,), with_trace = snapshots([run(**ALL)], digits, source)
    assert run().key == run(**ALL).key
    assert traced.metrics == plain.metrics
    assert (plain.artifacts, set(traced.artifacts)) == ({}, {ARTIFACT})
    for (one,), (other,) in zip(without, with_trace, strict=True):
        for group in ("theta", "buffers", "phi", "moments", "statistics"):
            assert all(torch.equal(tensor, other[group][name]) for name, tensor in one[group].items()), group


def test_the_file_is_what_the_analysis_reads(digits, source):
    (outcome,) = train([run(**ALL)], digits, source, device=CPU)
    read = pd.read_parquet(io.BytesIO(base64.b64decode(outcome.artifacts[ARTIFACT])))
    assert tuple(read.columns) == COLUMNS
    assert (read["epoch"].dtype, read["value"].dtype) == ("int32", "float32")
    assert sorted(set(read["epoch"])) == [0, 1, 2, 3]
    pairs = {f"{m}-{n}" for m in range(3) for n in range(5)}
    assert set(read["name"]) == {
        *("theta.conv.0.weight", "theta.fc.bias", "gamma.2-4", "gamma.0-1"),
        *(f"{kind}.{pair}" for kind in ("lambda", "omega") for pair in pairs),
    }
    counts = read[read["epoch"] == 0].groupby("name")["index"].agg(list).to_dict()
    assert counts["theta.conv.0.weight"] == ["1,2,0,1"]
    assert counts["theta.fc.bias"] == ["0", "1", "2"]  # eight, or all where there are fewer
    assert counts["gamma.2-4"] == ["3,0,2"]
    assert len(counts["gamma.0-1"]) == 8
    assert counts["lambda.2-4"] == [""]
    assert counts["omega.2-4"] == [str(channel) for channel in range(16)]


def test_before_training_the_meta_networks_give_what_they_are_made_to(digits, source):
    """meta.py: f is zero, so omega = 1 / C; h has bias softplus^-1(1), so gamma = 1."""
    start = table(look_at_start(run(**ALL), digits, source, CPU))
    assert list(start.columns) == [0]
    assert start.loc["gamma.2-4"].to_numpy() == pytest.approx(1, abs=1e-6)
    for m, channels in enumerate((4, 8, 16)):
        assert start.loc[f"omega.{m}-3"].to_numpy() == pytest.approx(1 / channels, rel=1e-6)


def reference(wanted, digits):
    """The training images in the order of the subset, one by one: fewer than 128, so all of them."""
    rows = stratified_subset(digits.train_labels, CLASSES, wanted.data.samples_per_class, wanted.seed)
    return normalize(digits.train_images[rows], torch.float64)


@pytest.mark.parametrize("method", ["l2t_ww", "l2t_www"])
def test_values_are_means_over_the_training_images(method, digits, source):
    wanted = run(method, precision="float64", **ALL)
    (outcome,), found = snapshots([wanted], digits, source)
    assert outcome.status == "finished"
    end, network = table(outcome)[3], source.double()
    assert (table(outcome)[0] != end).mean() > 0.5  # all has moved since, but where ReLU6 is at its floor
    features = [s.detach() for s in network.features(reference(wanted, digits))]
    pairs = [(m, n) for m in range(3) for n in range(5)]
    state = found[-1][0]
    expected = oracles.weights(state["phi"], features, pairs, [3] * 5)  # gamma at 3 x 3 pixels is h's grid itself
    for (m, n), (omega, where, gamma) in expected.items():
        assert end[f"lambda.{m}-{n}", ""] == pytest.approx(float(where.mean()), rel=1e-5)
        channels = [end[f"omega.{m}-{n}", str(c)] for c in range(omega.shape[1])]
        assert channels == pytest.approx(omega.mean(0).tolist(), rel=1e-5)
        if (m, n) == (2, 4) and method == "l2t_www":
            assert end["gamma.2-4", "3,0,2"] == pytest.approx(float(gamma.mean(0)[3, 0, 2]), rel=1e-5)
    assert end["theta.conv.0.weight", "1,2,0,1"] == pytest.approx(float(state["theta"]["conv.0.weight"][1, 2, 0, 1]))
    assert ("gamma.2-4" in set(end.index.get_level_values(0))) == (method == "l2t_www")


def test_of_many_images_128_spread_over_the_classes_are_looked_at(digits, source):
    wanted = run(samples=60, epochs=1, precision="float64", **{"lambda": True})
    start = table(look_at_start(wanted, digits, source, CPU))[0]
    rows = torch.linspace(0, 179, 128).round().long()
    network = source.double()
    initial = dict(Learner(wanted, 3, network, CPU).phi.items())
    features = [s.detach() for s in network.features(reference(wanted, digits)[rows])]
    pairs = [(m, n) for m in range(3) for n in range(5)]
    for (m, n), (_, where, _) in oracles.weights(initial, features, pairs, [3] * 5).items():
        assert start[f"lambda.{m}-{n}", ""] == pytest.approx(float(where.mean()), rel=1e-5)


def test_a_method_keeps_what_it_has(digits, source):
    assert run("scratch", **ALL).traced == ("theta.conv.0.weight[1,2,0,1]", "theta.fc.bias")
    assert run("ufm", **ALL).traced == run("scratch", **ALL).traced  # its weights are constants
    assert run("l2t_ww", **ALL).traced[:2] == ("lambda", "omega")
    (outcome,) = train([run("scratch", **ALL)], digits, None, device=CPU)
    assert set(table(outcome).index.get_level_values(0)) == {"theta.conv.0.weight", "theta.fc.bias"}


def test_every_nth_epoch_the_first_and_the_last_are_looked_at(digits, source):
    (outcome,) = train([run(epochs=5, **ALL, every=2)], digits, source, device=CPU)
    assert list(table(outcome).columns) == [0, 2, 4, 5]


# identities


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_run_has_the_same_trace_bitwise(stop, digits, source):
    (undisturbed,), found = snapshots([run(**ALL)], digits, source)
    (resumed,), _ = snapshots([run(**ALL)], digits, source, states=found[stop - 1])
    assert resumed.artifacts == undisturbed.artifacts


def test_each_run_of_a_pack_has_its_own_trace(digits, source):
    runs = [
        run(seed=0, precision="float64", **{"lambda": True}),
        run(seed=1, precision="float64"),
        run(seed=2, precision="float64", weights=("fc.bias[1]",), gamma=("0-0[1,1,1]",), every=3),
    ]
    pack, found = snapshots(runs, digits, source)
    again, _ = snapshots(runs, digits, source, states=found[0])
    assert pack[1].artifacts == {}
    for single, packed, resumed in zip(runs, pack, again, strict=True):
        (alone,) = train([single], digits, source, device=CPU)
        assert resumed.artifacts == packed.artifacts
        assert packed.artifacts == alone.artifacts
    assert list(table(pack[2]).columns) == [0, 3]


def test_a_run_that_diverges_keeps_its_trace_until_then(digits):
    wild = run("scratch", weights=("fc.bias[0]",)).model_copy(
        update={"training": Training(epochs=3, batch_size=8, lr=1e30)}
    )
    (outcome,) = train([wild], digits, None, device=CPU)
    assert (outcome.status, next(iter(table(outcome).columns))) == ("diverged", 0)


def test_two_traces_of_one_run_are_merged_and_the_newer_stays():
    older = encode([("lambda.0-0", ""), ("theta.a", "1")], [0, 2], [[1.0, 2.0], [3.0, 4.0]])[ARTIFACT]
    newer = encode([("theta.a", "1"), ("theta.a", "2")], [0, 1, 2], [[5.0, 6.0, 7.0], [8.0, 9.0, 10.0]])[ARTIFACT]
    merged = _parse(merge(base64.b64decode(older), base64.b64decode(newer)), "run")
    rows = [tuple(row) for row in merged[[*COLUMNS]].itertuples(index=False)]
    assert rows == [
        *((epoch, "lambda.0-0", "", value) for epoch, value in ((0, 1.0), (2, 2.0))),
        *((epoch, "theta.a", "1", value) for epoch, value in ((0, 5.0), (1, 6.0), (2, 7.0))),
        *((epoch, "theta.a", "2", value) for epoch, value in ((0, 8.0), (1, 9.0), (2, 10.0))),
    ]


def test_the_file_is_compact():
    """All omegas of ResNet-32's 15 pairs over 200 epochs: 560 x 201 float32 are 450 kB without any name or epoch."""
    columns = [(f"omega.{m}-{n}", str(c)) for m in range(3) for n in range(5) for c in range(16 << m)]
    walks = 1 / 32 + 1e-4 * torch.randn(len(columns), 201, generator=torch.Generator().manual_seed(0)).cumsum(1)
    content = base64.b64decode(encode(columns, range(201), walks)[ARTIFACT])
    assert len(content) < 4 * 560 * 201
    assert len(_parse(content, "run")) == 560 * 201


# gate


@pytest.mark.parametrize(
    ("trace", "told"),
    [
        (
            {"weights": ("conv.9.weight",)},
            r"trace.weights must name parameters of the target, got 'conv.9.weight'; did",
        ),
        ({"weights": ("fc.bias[3]",)}, r"trace.weights must have an index below \[3\] for fc.bias, got \[3\]; correct"),
        ({"weights": ("fc.weight[1]",)}, r"index below \[3, \d+\] for fc.weight, got \[1\]"),
        ({"gamma": ("0-0[9,1,1]",)}, r"trace.gamma must have an index below \[4, 3, 3\] for 0-0, got \[9,1,1\]"),
        ({"gamma": ("0-0",)}, r"trace.gamma must name pairs that are matched, got '0-0'; known are 2-4"),
    ],
    ids=["name", "index", "axes", "channel", "pair"],
)
def test_what_does_not_exist_is_refused(trace, told, digits, source):
    pairs = {"pairs": ((2, 4),)} if "pair that" in told or "'0-0'" in told else None
    with pytest.raises(InputError, match=told):
        look_at_start(run(transfer=pairs, **trace), digits, source, CPU)
