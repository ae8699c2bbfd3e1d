"""A setting of the C library's memory allocator, for processes that belong to this project.

Commands and the processes of a benchmark call it. The library does not: the allocator is the host
program's.
"""


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next temporary, instead of returning it to Linux.

    New memory from Linux costs a page fault for each 4 KiB: 8000 in a forward of GFNet-H-Ti at
    1024, and none with this. glibc keeps freed blocks that are no larger than the largest block
    freed before, up to 32 MiB (https://man7.org/linux/man-pages/man3/mallopt.3.html,
    M_MMAP_THRESHOLD), so one block of that size is allocated and freed here. A threshold that the
    user has set stays, and other allocators are not concerned.
    """
    bytes(2**25 - 2**13)  # calloc: none of its pages is touched
