"""How long runs take if nothing was measured: arithmetic from operation counts, always marked as an estimate.

An epoch takes the operations of its images over what the device gives, and no less than the launches of its kernels.
Operations of VGG-9 at width 1: 0.153 G multiply-adds an image forward; forward and backward count three times that.
"""

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.launch.placement.devices import CPU, Group
from l2t_ray.launch.placement.measurements import Figure, Speed
from l2t_ray.run import AnyRun
from l2t_ray.training.source_settings import Pretraining

ARCH = "vgg9"
FORWARD = 2 * 0.153e9  # operations an image
UNITS = {"scratch": 1.0, "ufm": 1.6, "l2t_ww": 10.0, "l2t_www": 10.0}  # of forward + backward (docs/measurements.md)
UNITS_OF_OTHERS = 2.0
GIVEN = {  # operations a second of such convolutions: 15 % of the maker's float32 figure; for the CPU, of one core
    "NVIDIA H200": 10e12,
    "NVIDIA H100 80GB HBM3": 10e12,
    "NVIDIA A100-SXM4-80GB": 2.9e12,
    "NVIDIA A100-SXM4-40GB": 2.9e12,
    "NVIDIA L40S": 13e12,
    "NVIDIA GeForce RTX 4090": 12e12,
    "NVIDIA GeForce RTX 3090": 5e12,
    "Tesla T4": 1.2e12,
    CPU: 50e9,
}
LAYERS = 9  # of VGG-9, which `LAUNCH_S` is about
OF_SOURCES = {  # operations an image forward at width 1 (He et al. 2016, 4.2: multiply-adds of 32 x 32), and layers
    "resnet20": (2 * 0.041e9, 20),
    "resnet32": (2 * 0.069e9, 32),
    "resnet44": (2 * 0.097e9, 44),
    "resnet56": (2 * 0.126e9, 56),
    ARCH: (FORWARD, LAYERS),
}
LAUNCH_S = 0.003  # at least, for the kernel launches of one unit's step on a card
OF_BRANCHES = {1: 1.0, 2: 0.72, 4: 0.60, 8: 0.59}  # by K: time of a run in a pack; H100, 50 images a step, 2026-11-26
BYTES_AN_IMAGE = 6 * 2**20  # activations, adjoints and tangents of one image at width 1, whatever the method
NOTE = "operations by 15 % of the maker's float32 speed; not measured"


def n_images(run: Run) -> int | None:
    """The number of training images of a run; None if only the image folder tells."""
    samples = run.data.samples_per_class
    n_classes = len(run.data.classes) if run.data.classes else registry.DATA_SETS[run.data.name].n_classes
    if isinstance(samples, int):
        return None if n_classes is None else samples * n_classes
    named = [number for name, number in samples.items() if name != "*"]
    if "*" not in samples:
        return sum(named)
    return None if n_classes is None else sum(named) + samples["*"] * (n_classes - len(named))


def estimate(run: AnyRun, group: Group) -> Figure | None:
    """A figure by arithmetic, on a card for packs; None if images, device or the target's operations are unknown."""
    if not isinstance(run, Run):
        return None
    images, given = n_images(run), GIVEN.get(group.device)
    if images is None or given is None or run.target.arch != ARCH:
        return None
    larger = (run.data.image_size / registry.IMAGE_SIZE) ** 2
    operations = FORWARD * max(run.target.width, 0.05) ** 2 * larger
    units = UNITS.get(run.method, UNITS_OF_OTHERS if run.method in registry.METHODS else 1.0)
    n_steps = -(-images // run.training.batch_size)
    launches_s = LAUNCH_S * units**0.5 * n_steps if group.is_gpu else 0.002 * units * n_steps
    epoch_s = max(3 * operations * units * images / given, launches_s)
    evaluation_s = operations * registry.DATA_SETS[run.data.name].n_test / given
    held = min(images, run.training.batch_size) * BYTES_AN_IMAGE * run.target.width * larger
    shares = OF_BRANCHES if group.is_gpu and run.method in UNITS else {1: 1.0}
    speeds = tuple(
        Speed(pack, pack * share * epoch_s, pack * share * evaluation_s, pack * (int(held) + 300 * 2**20))
        for pack, share in shares.items()
    )
    return Figure(speeds, context_bytes=500 * 2**20 if group.is_gpu else 0, basis="estimate", note=NOTE)


def estimate_source(settings: Pretraining, group: Group) -> float | None:
    """Returns the seconds of a source network's training by arithmetic; None if nothing is known of it."""
    per_image, given = OF_SOURCES.get(settings.source.arch), GIVEN.get(group.device)
    facts = registry.DATA_SETS[settings.data.name]
    n_classes = len(settings.data.classes) if settings.data.classes else facts.n_classes
    samples = settings.data.samples_per_class or facts.least_train
    if per_image is None or given is None or n_classes is None or not isinstance(samples, int):
        return None
    operations, n_layers = per_image
    operations *= (settings.data.image_size / registry.IMAGE_SIZE) ** 2
    n_trained = samples * n_classes
    cores = 1.0 if group.is_gpu else group.cores
    computing_s = 3 * operations * settings.source.width**2 * n_trained / (given * cores)
    n_steps = -(-n_trained // settings.training.batch_size)
    launches_s = LAUNCH_S * n_layers / LAYERS * n_steps if group.is_gpu else 0.0
    return settings.training.epochs * max(computing_s, launches_s)
