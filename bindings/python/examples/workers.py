"""Jobs for several processes. One is killed with a job in hand: another one gets that job.

    python examples/workers.py
"""

import multiprocessing
import os
import signal
import tempfile

import slipring

JOBS = 200


def work(number: int) -> None:
    with slipring.Consumer("jobs") as jobs, slipring.Producer("done") as done:
        for job in jobs:
            if number == 0:
                os.kill(os.getpid(), signal.SIGKILL)  # with its first job
            done.send(bytes(job))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/dev/shm") as rings:
        os.environ["SLIPRING_DIR"] = rings
        jobs = slipring.Producer("jobs", kind="mpmc", slots=64, payload=64)
        done = slipring.Consumer("done", kind="mpsc", lanes=8)
        spawn = multiprocessing.get_context("spawn")
        workers = [spawn.Process(target=work, args=[number]) for number in range(4)]
        for worker in workers:
            worker.start()
        for job in range(JOBS):
            jobs.send(job.to_bytes(4, "little"))
        results = sorted(int.from_bytes(bytes(done.recv(timeout=30)), "little") for _ in range(JOBS))
        assert results == list(range(JOBS))
        jobs.close()
        for worker in workers:
            worker.join()
        print(JOBS, "jobs done; exit codes:", [worker.exitcode for worker in workers])
