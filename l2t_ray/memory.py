"""How the C library treats memory that is given back: kept for the next activation, not returned to the system.

glibc maps every block above 32 MB afresh, and the system then clears it page by page: on the bilevel step at 128 images
that took a quarter of the time (docs/measurements.md).
"""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_NEVER = -1


def keep_freed_memory() -> bool:
    """Makes this process keep what it frees, for its next allocation; its resident size stays at its peak.

    Returns:
        Whether the C library is glibc and has agreed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
