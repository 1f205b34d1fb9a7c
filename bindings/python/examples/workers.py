"""Jobs for several processes. One is killed with a job in hand: another one gets that job.

    python examples/workers.py
"""

import multiprocessing
import os
import signal
import tempfile

import slipring

JOBS = 200
FATAL = (100).to_bytes(4, "little")


def work() -> None:
    with slipring.Consumer("jobs") as jobs, slipring.Producer("done") as done:
        done.send(b"ready")
        for job in jobs:
            if bytes(job) == FATAL and not job.redelivered:
                os.kill(os.getpid(), signal.SIGKILL)
            done.send(bytes(job))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/dev/shm") as rings:
        os.environ["SLIPRING_DIR"] = rings
        jobs = slipring.Producer("jobs", kind="mpmc", slots=64, payload=64)
        done = slipring.Consumer("done", kind="mpsc", lanes=8)
        spawn = multiprocessing.get_context("spawn")
        workers = [spawn.Process(target=work, daemon=True) for _ in range(4)]
        for worker in workers:
            worker.start()
        assert all(bytes(done.recv(timeout=30)) == b"ready" for _ in workers)
        for job in range(JOBS):
            jobs.send(job.to_bytes(4, "little"), timeout=30)
        results = sorted(int.from_bytes(bytes(done.recv(timeout=30)), "little") for _ in range(JOBS))
        assert results == list(range(JOBS))
        jobs.close()
        for worker in workers:
            worker.join()
        print(JOBS, "jobs done; exit codes:", [worker.exitcode for worker in workers])
