"""Memory settings that make training on a CPU faster. They count only when set before Python starts."""

from __future__ import annotations

import os
import platform

# glibc gives large buffers back to the system after every step and faults them in again at the next; with these it
# keeps them (measured by benchmarks/training_step.py).
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


def allocator_is_tuned() -> bool:
    """True where the settings are in force, or would change nothing (another C library)."""
    return platform.libc_ver()[0] != "glibc" or all(name in os.environ for name in ALLOCATOR)
