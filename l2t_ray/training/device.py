"""The device that a process trains on: its name, how much of its memory a process may take, and whether memory ran out.

On a CPU, glibc maps every block above 32 MB afresh and the kernel clears it page by page. On the bilevel step at 128
images that took a quarter of the time (docs/measurements.md), so `keep_memory` keeps freed blocks for the next
activation.
"""

import ctypes
import functools
import platform

import torch

OUT_OF_MEMORY = (  # of what is no allocation of torch's own: the CPU's, a card's contexts, libraries and graphs
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_NEVER = -1


@functools.cache
def device_name() -> str:
    """What this process trains on; times are comparable within one.

    Returns:
        The graphics card's name, or "cpu".
    """
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def limit_memory(fraction: float) -> None:
    """Caps what this process' allocator takes of its card, so that no pack takes its neighbours' memory.

    Args:
        fraction: of the card's memory; without a card nothing is capped.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what the pack before held
        torch.cuda.set_per_process_memory_fraction(fraction)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory was short.

    Args:
        error: that the training raised.

    Returns:
        True for torch's and Python's own, and for what the CPU's allocator and a card's libraries raise.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def context_bytes(device: torch.device) -> int:
    """What this process takes of a card beside its allocator, if it is alone there.

    Args:
        device: of the process.

    Returns:
        Bytes; 0 on a CPU, where it is part of the resident set.
    """
    if device.type != "cuda":
        return 0
    torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)  # loads the libraries, too
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free - torch.cuda.memory_reserved(device))


def keep_freed_memory() -> bool:
    """Makes this process keep what it frees, for its next allocation; its resident size stays at its peak.

    Returns:
        Whether the C library is glibc and has agreed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
