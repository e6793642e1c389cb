"""Write NUMA nodes as sysfs shows them: this machine's own CPUs dealt out, so that what is pinned to one really runs.

A machine with one node keeps the nodes that its kernel shows.
"""

import os
import shutil
from pathlib import Path

from rackhand.lab.personality import Personality


def write(folder: Path, personality: Personality) -> None:
    """Make `folder` show the nodes that the personality's GPUs are on; nothing where that is one."""
    shutil.rmtree(folder, ignore_errors=True)
    count = max((gpu.numa_node for gpu in personality.gpus), default=0) + 1
    if count == 1:
        return
    memory_kib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024 // count
    cpus = sorted(os.sched_getaffinity(0))
    for node in range(count):
        place = folder / f"node{node}"
        place.mkdir(parents=True)
        own = cpus[len(cpus) * node // count : len(cpus) * (node + 1) // count] or cpus
        (place / "cpulist").write_text(",".join(map(str, own)) + "\n")
        (place / "meminfo").write_text(f"Node {node} MemTotal:       {memory_kib} kB\n")
        (place / "distance").write_text(" ".join("10" if other == node else "20" for other in range(count)) + "\n")
    for name in ("online", "possible", "has_cpu", "has_memory"):
        (folder / name).write_text(f"0-{count - 1}\n")
