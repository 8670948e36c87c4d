"""Images where there is room for them: on the device, in memory, or in the mapped cache file; then one batch ahead."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import torch
from torch import Tensor

SHARE = 0.5  # of the memory that is free: activations need the rest


def fits(n_bytes: int, device: torch.device) -> bool:
    """Whether so many bytes of images may lie in the memory of a device."""
    if device.type != "cuda":
        available: int = psutil.virtual_memory().available
        return n_bytes <= SHARE * available
    free, total = torch.cuda.mem_get_info(device)
    mine = torch.cuda.get_per_process_memory_fraction(device) * total - torch.cuda.memory_reserved(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return n_bytes <= SHARE * (min(free, mine) + unused)


def space(n_images: int, size: int, folder: Path) -> Tensor:
    """Returns room for images, uint8 [N, 3, size, size]: in memory, or in a file that is gone when nobody uses it.

    Args:
        n_images: their number.
        size: H = W.
        folder: where the file is, if they do not fit into the memory.

    Raises:
        OSError: if there is no room on the disk.
    """
    shape = (n_images, 3, size, size)
    n_bytes = n_images * 3 * size * size
    if fits(n_bytes, torch.device("cpu")):
        return torch.empty(shape, dtype=torch.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".decoding.") as file:
        os.posix_fallocate(
            file.fileno(), 0, n_bytes
        )  # a full disk ends a write into a mapped file without an exception
        return torch.from_file(file.name, shared=True, size=n_bytes, dtype=torch.uint8).view(shape)


class Images:
    """Some images of a data set, of which batches are taken.

    Args:
        images: uint8 [M, 3, S, S], on the CPU or the device; perhaps a mapped file.
        places: int64 [N], of these images; None for all.
        device: on which batches are wanted.

    Attributes:
        there: all of them on the device, [N, 3, S, S]; None where they do not fit there.
    """

    def __init__(self, images: Tensor, places: Tensor | None, device: torch.device) -> None:
        self._images, self._places, self.device = images, None if places is None else places.cpu(), device
        n_bytes = images[:1].nbytes * len(self)
        self.there: Tensor | None = None
        if places is None and images.device.type == device.type:
            self.there = images
        elif fits(n_bytes, device):
            self.there = (images if places is None else images[places.to(images.device)]).to(device)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._images if self._places is None else self._places)

    @property
    def size(self) -> int:
        """H = W of an image."""
        return self._images.shape[-1]

    def first(self, n: int) -> "Images":
        """Returns the first ones alone."""
        return Images(self._images, torch.arange(n) if self._places is None else self._places[:n], self.device)

    def take(self, rows: Tensor) -> Tensor:
        """Returns a batch [B, 3, S, S] on the device.

        Args:
            rows: int64 [B], anywhere.
        """
        return self.there[rows.to(self.device)] if self.there is not None else self._read(rows).to(self.device)

    def batches(self, split: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields a batch on the device for each group of rows.

        Where they do not lie there: while one is used, the next is read into pinned memory and copied.

        Args:
            split: rows of each batch, int64 [B], on the CPU.
        """
        if self.there is not None or self._images.device.type == "cuda":
            yield from (self.take(rows) for rows in split)
            return
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        with ThreadPoolExecutor(1, "images") as pool:
            ahead = [pool.submit(self._bring, rows, stream) for rows in split[:1]]
            for index in range(len(split)):
                batch, arrived = ahead.pop().result()
                ahead += [pool.submit(self._bring, rows, stream) for rows in split[index + 1 : index + 2]]
                if arrived is not None:
                    current = torch.cuda.current_stream(self.device)
                    current.wait_event(arrived)
                    batch.record_stream(current)
                yield batch

    def _read(self, rows: Tensor) -> Tensor:
        chosen = rows if self._places is None else self._places[rows.cpu()]
        return self._images[chosen.to(self._images.device)]

    def _bring(self, rows: Tensor, stream: torch.cuda.Stream | None) -> tuple[Tensor, torch.cuda.Event | None]:
        if stream is None:
            return self._read(rows).to(self.device), None
        with torch.cuda.stream(stream):
            batch = self._read(rows).pin_memory().to(self.device, non_blocking=True)
            return batch, stream.record_event()
