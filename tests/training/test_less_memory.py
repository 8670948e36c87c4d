"""Settings that save memory: a batch in parts, and parts of a network computed again."""

import pytest
import torch

from l2t_ray import registry
from l2t_ray.config import Data, Run, Source, Target, Training, pack_shape
from l2t_ray.errors import InputError
from l2t_ray.models import build
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.training.learner import Learner

N, B, CPU = 3, 10, torch.device("cpu")


def make(method, arch="vit", width=0.05, source="resnet20", **training):
    registry.load()
    return Run(
        data=Data(name="digits", samples_per_class=4, image_size=32),
        method=method,
        seed=0,
        source=Source(arch=source, width=0.25 if source == "resnet20" else 1.0),
        target=Target(arch=arch, width=width),
        training=Training(epochs=2, batch_size=B, lr=0.05, precision="float64", **training),
    )


def stepped(run, n_steps=2):
    torch.manual_seed(0)
    reads = "source" in registry.METHODS[run.method].uses
    source = build(run.source.arch, run.source.width, 5).double().requires_grad_(False).eval() if reads else None
    learner, g = Learner(run, N, source, CPU), torch.Generator().manual_seed(5)
    losses = []
    with torch.no_grad():
        for _ in range(n_steps):
            images, labels = torch.randn(B, 3, 32, 32, generator=g, dtype=torch.float64), torch.arange(B) % N
            losses += learner.step(images, labels, torch.tensor(0.05, dtype=torch.float64))
    return learner, losses


@pytest.mark.parametrize("method", ["scratch", "ufm", "attention_transfer"])
@pytest.mark.parametrize("n_parts", [2, 3, 5, 100])
def test_parts_of_a_batch_make_the_whole_batchs_step(method, n_parts):
    """A transformer, which has no batch statistics: the weighted mean of the parts' gradients is the whole one."""
    (whole, losses), (parts, of_parts) = stepped(make(method)), stepped(make(method, accumulate=n_parts))
    for name, p in whole.theta.items():
        torch.testing.assert_close(parts.theta[name], p, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(torch.stack(of_parts), torch.stack(losses))


def test_parts_have_their_own_batch_statistics_so_the_key_differs():
    (whole, _), (parts, _) = (stepped(make("scratch", "resnet20", 0.25, accumulate=n)) for n in (1, 2))
    assert not torch.allclose(whole.theta["fc.weight"], parts.theta["fc.weight"], rtol=1e-9)
    assert make("scratch").key == make("scratch", accumulate=1).key != make("scratch", accumulate=2).key


@pytest.mark.parametrize("method", ["l2t_ww", "l2t_www"])
def test_a_look_ahead_takes_the_whole_batch(method):
    with pytest.raises(InputError, match=r"training.accumulate must be 1 for .*got 2; leave it out, or save memory by"):
        stepped(make(method, accumulate=2))


@pytest.mark.parametrize("method", ["scratch", "l2t_www"])
@pytest.mark.usefixtures("narrow")
def test_computing_again_changes_no_bit_and_no_key(method):
    runs = [make(method, "resnet18", 1.0, "resnet34", recompute=again) for again in (False, True)]
    (kept, losses), (again, of_again) = map(stepped, runs)
    assert runs[0].key == runs[1].key
    assert pack_shape(runs[0]) != pack_shape(runs[1])  # it needs other memory and time
    assert all(torch.equal(p, again.theta[name]) for name, p in kept.theta.items())
    assert all(torch.equal(p, again.phi[name]) for name, p in kept.phi.items())
    assert all(torch.equal(p, again.statistics[name]) for name, p in kept.statistics.items())
    assert torch.equal(torch.stack(losses), torch.stack(of_again))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("recompute: true", "training.recompute must be false for vgg9, got true; leave it out, or take resnet18"),
        ("accumulate: 2", "training.accumulate must be 1 for l2t_ww"),
    ],
)
def test_what_cannot_is_told_at_its_line(folder, setting, told):
    (folder / "sweep.yaml").write_text(f"""
sweep: less
run: {{data: {{name: digits, samples_per_class: 5}}, source: {{weights: l2t-ww-tinyimagenet}}}}
grid:
- method: l2t_ww
  seed: 0
  training:
    {setting}
""")
    with pytest.raises(InputError) as caught:
        read_sweep(folder / "sweep.yaml")
    (line,) = caught.value.problems
    assert line.startswith(f"{folder}/sweep.yaml:8: {told}")
