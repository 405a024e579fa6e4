"""Return the memory of freed tensors to the system, which glibc else keeps: up to a third of what a run holds."""

from __future__ import annotations

import ctypes
import os

LARGE = 4 << 20
"""Bytes of a tensor that gets pages of its own. Smaller ones would cost time: at 1 MiB a step takes a third more."""
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h


def give_back() -> None:
    """Keep glibc's border at 4 MiB, above which memory is the system's again as soon as it is freed.

    By itself it raises the border to 32 MiB as tensors are freed, and cuts later ones out of a heap that only grows.
    Where the environment sets the border, that holds; a system without glibc is left as it is.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, LARGE)
