"""Peak resident memory of this process beyond what it held before: what a training takes, without the libraries.

Linux only: the kernel keeps the highest resident size (``VmHWM`` in ``/proc/self/status``) and forgets it when
``/proc/self/clear_refs`` is written. Freed blocks that the allocator keeps would count as used, so
:func:`hand_back_at_once` has large blocks mapped one by one and unmapped when they are freed. That costs page faults;
times are taken after :func:`keep_freed`.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
SMALL, LARGEST = 1 << 16, 1 << 25  # bytes; the latter is the most that glibc takes
MB = 1024  # kB


def measurable() -> bool:
    """Whether this system tells a process its peak."""
    return sys.platform == "linux" and PEAK.exists()


def hand_back_at_once() -> None:
    """Give every freed block of 64 kB or more back to the system at once."""
    _mallopt(M_MMAP_THRESHOLD, SMALL)
    _mallopt(M_TRIM_THRESHOLD, SMALL)


def keep_freed() -> None:
    """Let the allocator keep freed blocks for the next ones, as it does after a while by itself."""
    _mallopt(M_MMAP_THRESHOLD, LARGEST)
    _mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def resident_mb() -> float:
    """Return the resident size now."""
    return _status("VmRSS")


def begin_peak() -> None:
    """Forget the peak so far."""
    PEAK.write_text(FORGET_PEAK)


def peak_mb() -> float:
    """Return the highest resident size since :func:`begin_peak`."""
    return _status("VmHWM")


def _status(field: str) -> float:
    with STATUS.open() as lines:
        return next(int(line.split()[1]) / MB for line in lines if line.startswith(field))


def _mallopt(option: int, value: int) -> None:
    """Set an option of glibc's allocator; other C libraries have none."""
    function = getattr(ctypes.CDLL(None), "mallopt", None)
    if function is not None:
        function(option, value)
