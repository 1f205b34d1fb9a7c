"""Ten lines of Python receive 1 GB from a Rust process, and add it up without a copy.

    python examples/gigabyte.py

It builds the Rust side (`peer.rs`) with cargo. Another size in bytes may be given as an argument.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import slipring

SIZE, FRAME = int(sys.argv[1]) if len(sys.argv) > 1 else 1 << 30, 1 << 16
PEER = ["cargo", "run", "--quiet", "--release", "--example", "peer", "--"]


def receive(directory: str) -> tuple[int, int]:
    # The ten lines.
    total, received = numpy.uint64(0), 0
    with slipring.Consumer("data", directory=directory) as rx:
        for frame in rx:
            total += numpy.frombuffer(frame, numpy.uint64).sum()
            received += len(frame)
    return int(total), received


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/dev/shm") as rings:
        peer = subprocess.Popen(
            [*PEER, "send", "data", str(FRAME), str(SIZE // FRAME)],
            cwd=Path(__file__).parent,
            env={**os.environ, "SLIPRING_DIR": rings},
        )
        with numpy.errstate(over="ignore"):
            began = time.perf_counter()
            total, received = receive(rings)
        print(f"{received} bytes in {time.perf_counter() - began:.2f} s, with the start of the peer; sum {total}")
        assert received == SIZE // FRAME * FRAME and peer.wait() == 0
