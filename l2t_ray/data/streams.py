"""Named random streams: every draw depends on (seed, name, epoch) alone.

No draw depends on the device, on the pack that trains a run, or on how often it was resumed, and two methods with one
seed share subset, initial weights, batch order and augmentation. Names in use: "subset.<class>", "validation.<class>",
"init", "init.transfer", "init.meta", "batches", "augment", "crops", "rand_augment", "colours", "mixup", "prepare",
"draws", "loss", "own.<function>".
"""

import hashlib

import torch


def stream(seed: int, name: str, epoch: int = 0) -> torch.Generator:
    """Returns a new CPU generator whose state is a hash of its arguments.

    Args:
        seed: the run's seed.
        name: what the draws are for.
        epoch: 0-based; 0 for draws made once a run.
    """
    digest = hashlib.sha256(f"l2t-ray/{seed}/{name}/{epoch}".encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def seed_torch(seed: int, name: str) -> None:
    """Has code that draws without a generator, such as a method's own, draw from a stream (see `stream`)."""
    torch.manual_seed(stream(seed, name).initial_seed())
