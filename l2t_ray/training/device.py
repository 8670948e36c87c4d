"""The device that a process trains on: its name, how much of its memory a process may use, and whether memory ran out.

On a CPU, glibc maps every block above 32 MB anew and the kernel clears it page by page. In the bilevel step at 128
images that took a quarter of the time (docs/measurements.md), so `keep_freed_memory` keeps freed blocks for the next
activation.
"""

import ctypes
import functools
import platform
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

OUT_OF_MEMORY = (  # errors outside torch's own allocator: the CPU's, a card's contexts, libraries and graphs
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
OF_A_CARD = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "NVML")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_NEVER = -1


@functools.cache
def device_name() -> str:
    """Returns the graphics card's name, or "cpu"; times are comparable within one."""
    if "torch" not in sys.modules and not has_nvidia_driver():
        return "cpu"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def has_nvidia_driver() -> bool:
    """Whether NVML answers; without it torch sees no card, and importing torch takes seconds."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    pynvml.nvmlShutdown()
    return True


def limit_memory(fraction: float) -> None:
    """Limits torch's allocator in this process to a fraction of its card's memory, if torch is what it uses."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()  # frees the memory of the pack before
        torch.cuda.set_per_process_memory_fraction(fraction)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, in torch, Python, the CPU's allocator or a card's libraries."""
    torch = sys.modules.get("torch")  # else it has raised nothing
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def is_of_machine(error: BaseException) -> bool:
    """Whether a disk, the network or a card may be the cause of an exception, not the code that was running."""
    return isinstance(error, OSError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OF_A_CARD)
    )


def context_bytes(device: "torch.device") -> int:
    """Returns the bytes of a card that this process uses outside its allocator, if it is alone there; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    import torch

    torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)  # loads the libraries
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free - torch.cuda.memory_reserved(device))


def keep_freed_memory() -> bool:
    """Makes this process keep the memory that it frees for its next allocation; its resident size stays at its peak.

    Returns:
        Whether the C library is glibc and has agreed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
