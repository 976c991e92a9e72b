"""Processes that train together: from a server that has imported torch, and has no threads.

A process that has once opened a process group, or multiplied in threads, must not be forked.
"""

import multiprocessing
import sys
import time
import warnings
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed
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


@contextmanager
def process_group(rank, folder):
    """The group of the processes that `run_together` started, which meet in a folder."""
    torch.set_num_threads(1)
    warnings.simplefilter("default")  # those of FSDP2 are no errors here
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=COUNT,
        timeout=timedelta(seconds=SECONDS / 3),
    )
    yield
    distributed.destroy_process_group()
