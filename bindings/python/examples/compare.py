"""How fast Python and Rust exchange frames, beside Rust alone: every pair of sides, in turns.

    python examples/compare.py

Each sender copies a block into the ring for each frame; each receiver adds the words of each frame up in
place (numpy's `sum`, a loop in Rust). A figure is the median of the rounds, from the first frame to the
end; the ratio is to Rust with Rust of the same round. Arguments: bytes, bytes of a frame, rounds.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import slipring

HERE = Path(__file__).parent
ARGUMENTS = [int(one) for one in sys.argv[1:] if one.isdigit()]
SIZE, FRAME, ROUNDS = (ARGUMENTS + [1 << 30, 1 << 16, 9][len(ARGUMENTS) :])[:3]


def send(name: str) -> None:
    block = numpy.arange(FRAME, dtype=numpy.uint8)
    with slipring.Producer(name) as tx:
        while not tx.has_peer:
            time.sleep(0.001)
        for _ in range(SIZE // FRAME):
            tx.send(block)


def recv(name: str) -> None:
    total, received, began = numpy.uint64(0), 0, 0.0
    with slipring.Consumer(name) as rx, numpy.errstate(over="ignore"):
        for frame in rx:
            began = began or time.perf_counter()
            total += numpy.frombuffer(frame, numpy.uint64).sum()
            received += len(frame)
    print(received // FRAME, received, time.perf_counter() - began, int(total))


def build() -> str:
    subprocess.run(["cargo", "build", "--quiet", "--release", "--example", "peer"], cwd=HERE, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    return str(target / "release/examples/peer")


def run(sender: list[str], receiver: list[str], rings: str) -> tuple[float, str]:
    environment = {**os.environ, "SLIPRING_DIR": rings}
    cpus = sorted(os.sched_getaffinity(0))
    # Each side on a processor of its own: without that, the scheduler is what is measured.
    rx = subprocess.Popen(
        [*receiver, "recv", "data"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus[-1:]),
    )
    tx = subprocess.Popen(
        [*sender, "send", "data", str(FRAME), str(SIZE // FRAME)],
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus[:1]),
    )
    line = rx.communicate()[0].split()
    assert tx.wait() == 0 and rx.returncode == 0 and int(line[1]) == SIZE // FRAME * FRAME, line
    slipring.remove("data", directory=rings)
    return int(line[1]) / float(line[2]) / 1e9, line[3]


def main() -> None:
    rust, python = [os.environ.get("PEER") or build()], [sys.executable, __file__]
    pairs = {
        "Rust to Rust": (rust, rust),
        "Rust to Python": (rust, python),
        "Python to Rust": (python, rust),
        "Python to Python": (python, python),
    }
    rates: dict[str, list[float]] = {name: [] for name in pairs}
    sums = set()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as rings:
        for _ in range(ROUNDS):
            for name, (sender, receiver) in pairs.items():
                rate, total = run(sender, receiver, rings)
                rates[name].append(rate)
                sums.add(total)
    assert len(sums) == 1, "all receivers have added the same"
    base = rates["Rust to Rust"]
    print(f"{SIZE / 1e9:.2f} GB in frames of {FRAME} bytes, median of {ROUNDS} rounds")
    for name, values in rates.items():
        ratios = [value / least for value, least in zip(values, base, strict=True)]
        print(
            f"{name:17} {statistics.median(values):6.2f} GB/s ({min(values):.2f} to {max(values):.2f})"
            f"   {statistics.median(ratios):5.0%} ({min(ratios):.0%} to {max(ratios):.0%})"
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["send", name, frame, frames]:
            FRAME, SIZE = int(frame), int(frame) * int(frames)
            send(name)
        case ["recv", name]:
            recv(name)
        case _:
            main()
