"""Named random streams."""

import hashlib

import torch

from l2t_ray.data.streams import stream


def test_a_stream_is_the_hash_of_seed_name_and_epoch_and_shares_nothing_with_another():
    digest = hashlib.sha256(b"l2t-ray/3/augment/7").digest()
    assert stream(3, "augment", 7).initial_seed() == int.from_bytes(digest[:8], "big") % 2**64
    wanted = [(s, n, e) for s in range(4) for n in ("batches", "augment") for e in range(4)]
    assert len({tuple(torch.rand(4, generator=stream(*one)).tolist()) for one in wanted}) == len(wanted)
