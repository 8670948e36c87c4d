"""The code that torch.compile generates for a card, on a machine without one."""

import pytest

from benchmarks.generated_code import kernels_of, without_caches
from benchmarks.pretended import full_step, pretended_card


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:\\s*Online softmax is disabled:UserWarning")  # of torch 2.11
def test_a_piece_with_small_maps_is_one_kernel():
    """Convolutions, which are libraries', are 328 of the others."""
    with without_caches(), pretended_card():
        seen = full_step("l2t_www", 50, compiled=True)
        pieces = [*seen.pieces.values()]
        counts = [*kernels_of(pieces)]
    several = {
        piece.function.__name__ for piece, count in zip(pieces, counts, strict=True) if count > 1 and not piece.splits
    }
    assert several <= {"logit_gradient", "logit_tangent"}
    n_pieces = sum(piece.n_calls * count for piece, count in zip(pieces, counts, strict=True))
    assert n_pieces <= 380
    assert seen.n_outside <= 570
    assert seen.n_kernels == pytest.approx(n_pieces + seen.n_outside, rel=0.02)  # what is estimated without code
