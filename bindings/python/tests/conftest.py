"""A directory of rings for each test, and programs that run beside it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOON = 20.0
"""Longer than anything here takes, so that what hangs fails."""


@pytest.fixture(autouse=True)
def rings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Rings are named in a directory of the test's own, which is in memory if there is room for that."""
    import shutil
    import tempfile

    shm = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="slipring-py-", dir=shm if os.access(shm, os.W_OK) else None))
    directory.chmod(0o700)
    monkeypatch.setenv("SLIPRING_DIR", str(directory))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts another Python with a program and arguments."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
