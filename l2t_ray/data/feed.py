"""The training images of a run, batch by batch: in an epoch's order, changed, normalised, with their labels."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from l2t_ray.config import Augment
from l2t_ray.data.augment import crop_and_flip, epoch_draws
from l2t_ray.data.place import Images


class Feed:
    """The training images and the random changes that the settings ask for.

    Args:
        images: N of them.
        labels: int64 [N], on the device.
        n_classes: of the data set.
        settings: which changes.
        seed: the run's.
        normalized: makes of bytes what the networks take.
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        n_classes: int,
        settings: Augment,
        seed: int,
        normalized: Callable[[Tensor], Tensor],
    ) -> None:
        self.images, self.labels, self.n_classes = images, labels, n_classes
        self.settings, self.seed, self.normalized = settings, seed, normalized

    def batches(self, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images [B, 3, S, S] and labels, int64 [B], or shares of the classes [B, n_classes] of mixtures.

        Args:
            epoch: 0-based.
            batch_size: of all batches but the last.
        """
        n_images, settings = len(self.labels), self.settings
        order, offsets, flips = epoch_draws(self.seed, epoch, n_images, settings)
        padding = settings.crop_padding
        if settings.resized_crop is not None:
            offsets, padding = torch.zeros_like(offsets), 0
        device = self.labels.device
        there = offsets.to(device), flips.to(device)
        changes = None
        if not settings.is_plain:
            from l2t_ray.data.transforms import change, draw_changes, mix

            changes = draw_changes(self.seed, epoch, n_images, self.images.size, settings)
        split = order.split(batch_size)
        for rows, images in zip(split, self.images.batches(split), strict=True):
            chosen = rows.to(device)
            moved = crop_and_flip(images, there[0][chosen], there[1][chosen], padding)
            moved = moved if changes is None else change(moved, rows, changes, settings)
            x, labels = self.normalized(moved), self.labels[chosen]
            if changes is not None and changes.shares is not None:
                x, labels = mix(x, labels, changes.shares[rows], self.n_classes)
            yield x.contiguous(memory_format=torch.channels_last), labels
