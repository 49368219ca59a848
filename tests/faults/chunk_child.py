"""Chunks every file of a folder in a process of its own, with a bound on its CPU time and its memory.

`python chunk_child.py FOLDER CPU_S`: one JSON line a file: its name, its CPU seconds, its chunks and the longest one.
What takes longer than CPU_S on one file is killed by the kernel, and the last name that was announced is the culprit.
"""

import json
import resource
import sys
import time
from pathlib import Path

from gateway.client.chunking import chunk_file

MOST_MEMORY = 2 * 1024**3


def main(folder: Path, cpu_s: int) -> None:
    """See the module's docstring."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    for path in sorted(folder.iterdir()):
        sys.stdout.write(json.dumps({"name": path.name}) + "\n")
        sys.stdout.flush()
        begun = time.process_time()
        limit = int(begun) + cpu_s + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        source = path.read_bytes()
        chunks = chunk_file(path.name, source)
        figures = {
            "name": path.name,
            "cpu_s": round(time.process_time() - begun, 2),
            "chunks": len(chunks),
            "longest": max((len(chunk.content) for chunk in chunks), default=0),
            "longest_symbol": max((len(chunk.symbol) for chunk in chunks), default=0),
            "ordered": all(1 <= chunk.start_line <= chunk.end_line for chunk in chunks),
        }
        sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
