"""The room that kept networks and predictions take, as the plan says it."""

import itertools

from l2t_ray import registry
from l2t_ray.config import Data, Record, Run, Target
from l2t_ray.launch.kept import kept_bytes, kept_text


def runs(n, **record):
    registry.load()
    return [
        Run(data=Data(name="cifar10", samples_per_class=10), method="scratch", seed=seed, target=Target(),
            record=Record(**record))
        for seed in range(n)
    ]  # fmt: skip


def test_the_plan_says_what_is_kept():
    keeping = runs(3, weights="last", predictions=True)
    # VGG-9 of the thesis: 3 x 3 kernels of (3, 64, 128, 256, 256, 512, 512, 512, 512) maps, batch norms, 512 x 10 + 10
    maps = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    parameters = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(maps)) + 512 * 10 + 10
    assert kept_bytes(keeping) == {
        "target.safetensors": (3, 3 * 4 * parameters), "predictions.parquet": (3, 3 * 4 * 10_000 * 10),
    }  # fmt: skip
    assert "predictions.parquet of 3 runs, about 0.4 MB each" in kept_text(keeping)
    assert kept_text(runs(3)) == ""
