"""A limit of memory for a process of ours that reads what a stranger made."""

import os


def limit_memory(spare: int | None) -> None:
    """Let this process take at most `spare` bytes more than it has taken so far, None as much as it may be given.

    Windows has no such limit.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if spare is None:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        return
    with open("/proc/self/statm" if os.path.exists("/proc/self/statm") else os.devnull) as file:
        taken = int((file.read().split() or ["0"])[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + spare if most < 0 else min(taken + spare, most), most))
