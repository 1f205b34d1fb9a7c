"""A publisher of prices in one process, an asyncio subscriber in another, and the newest price on a board.

    python examples/prices.py
"""

import asyncio
import multiprocessing
import os
import tempfile

import numpy
import slipring

PRICE = numpy.dtype([("bid", "f8"), ("ask", "f8")])
COUNT = 10_000


def publish() -> None:
    with (
        slipring.Publisher("prices", message_type="Price: bid f8, ask f8") as tx,
        slipring.LatestWriter("newest", size=PRICE.itemsize) as board,
    ):
        while not tx.has_peer:
            pass
        for i in range(COUNT):
            with tx.reserve(PRICE.itemsize) as grant:
                price = numpy.frombuffer(grant, PRICE)
                price["bid"], price["ask"] = 1 + i / 1e6, 1 + i / 1e6 + 1e-5
                board.write(price)
                del price  # a grant is committed without views


async def subscribe() -> int:
    seen = 0
    with slipring.Subscriber("prices", message_type="Price: bid f8, ask f8") as rx:
        async for frame in rx.aio():
            (price,) = numpy.frombuffer(frame, PRICE)
            assert price["ask"] > price["bid"]
            seen += 1
    return seen


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/dev/shm") as rings:
        os.environ["SLIPRING_DIR"] = rings
        publisher = multiprocessing.get_context("spawn").Process(target=publish)
        publisher.start()
        print(asyncio.run(subscribe()), "prices")
        publisher.join()
        with slipring.LatestReader("newest") as board:
            reading = board.read()
        print("newest:", numpy.frombuffer(reading.value, PRICE)[0], "of version", reading.version)
