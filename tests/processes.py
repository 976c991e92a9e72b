"""Processes that train together: from a server that has imported torch, and has no threads.

A process that has once opened a process group, or multiplied in threads, must not be forked.
"""

import multiprocessing
import sys
import time

from torch.multiprocessing import start_processes

COUNT, SECONDS = 2, 180
METHOD = "forkserver" if sys.platform == "linux" else "spawn"
if METHOD == "forkserver":
    # Imported once, and not by each process again.
    multiprocessing.set_forkserver_preload(["structmat.nn"])


def run_together(work, *arguments):
    """Run `work(rank, *arguments)` in two processes; what one of them raises is raised."""
    running = start_processes(work, arguments, COUNT, join=False, start_method=METHOD)
    end = time.monotonic() + SECONDS
    try:
        while not running.join(timeout=1):
            assert time.monotonic() < end, f"not done within {SECONDS} seconds"
    finally:
        for process in running.processes:
            process.kill()
