"""Rust at the other end: the `slipring` command, if it is installed or SLIPRING names it."""

import os
import shutil
import subprocess

import pytest
import slipring
from conftest import SOON

SLIPRING = os.environ.get("SLIPRING") or shutil.which("slipring") or ""
pytestmark = pytest.mark.skipif(not SLIPRING, reason="the slipring command is not installed, and SLIPRING is not set")


@pytest.mark.parametrize("kind", ["spsc", "mpmc", "mpsc"])
def test_the_command_receives_what_python_sends(kind: str) -> None:
    with slipring.Producer("out", kind=kind, capacity=4096, slots=16, payload=64) as tx:  # type: ignore[arg-type]
        process = subprocess.Popen([SLIPRING, "recv", "-q", "ring:out"], stdout=subprocess.PIPE, text=True)
        for i in range(500):
            tx.send(f"line {i}".encode(), SOON)
    out, _ = process.communicate(timeout=SOON)
    assert out.splitlines() == [f"line {i}" for i in range(500)]


def test_python_receives_what_the_command_sends() -> None:
    rx = slipring.Consumer("in", capacity=4096)
    lines = "".join(f"line {i}\n" for i in range(500))
    process = subprocess.Popen([SLIPRING, "send", "-q", "ring:in"], stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(lines)
    process.stdin.close()
    assert [bytes(frame).decode() for frame in rx] == lines.splitlines()
    assert process.wait(SOON) == 0
