"""What the C library does with memory that is given back."""

import ctypes

_M_MMAP_THRESHOLD = -3
_THRESHOLD_BYTES = 512 * 1024


def return_large_buffers() -> None:
    """Have glibc give every buffer of 512 KiB and more back to the system once it is freed.

    By itself it raises that bound to 32 MiB as such buffers are freed, and from then on keeps them in an arena for each
    thread: a gateway that was sent sixteen texts of a million characters held 185 MiB more, 127 with this. Does nothing
    where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)
