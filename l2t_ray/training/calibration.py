"""The expected calibration error: how far a network's confidence is from its accuracy (Guo et al. 2017, eq. 3).

| symbol | code |
| --- | --- |
| M | BINS: equal intervals of confidence, ((m - 1) / M, m / M] |
| n, acc(B_m) n_m, conf(B_m) n_m | Bins.total of `right`, `confidence`, [M] each, and the images seen |
| ECE | sum over m of n_m / n times abs(acc(B_m) - conf(B_m)) |
"""

import torch
from torch import Tensor

BINS = 15  # as in the paper


class Bins:
    """Adds up, batch by batch and on the device, the sums that the error needs.

    Args:
        device: of the logits.
    """

    def __init__(self, device: torch.device) -> None:
        self.n_images = 0
        self.right = torch.zeros(BINS, device=device)
        self.confidence = torch.zeros(BINS, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Sorts a batch into the bins.

        Args:
            logits: [B, N].
            labels: [B].
        """
        confidence, guess = logits.softmax(-1).max(-1)
        place = (confidence * BINS).ceil().long().sub_(1).clamp_(0, BINS - 1)
        self.right.scatter_add_(0, place, (guess == labels).to(self.right.dtype))
        self.confidence.scatter_add_(0, place, confidence.to(self.confidence.dtype))
        self.n_images += len(labels)

    def error_percent(self) -> Tensor:
        """Returns the expected calibration error in percent, 0 to 100."""
        return 100 * (self.right - self.confidence).abs().sum() / self.n_images
