"""Frames awaited in asyncio."""

import asyncio
from pathlib import Path
from typing import Awaitable, TypeVar

from frames import frame

import shmlan
from shmlan import aio
from shmlan.pytest_plugin import Lan


T = TypeVar("T")


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, 30)


def test_tasks_of_one_thread_talk(lan: Lan) -> None:
    """Each of them sleeps until the other has answered."""

    async def ask(station: shmlan.Station, rounds: int) -> None:
        for number in range(rounds):
            station.send(frame(number))
            assert await soon(aio.recv(station)) == frame(number + 1_000)

    async def answer(station: shmlan.Station) -> None:
        async for question in aio.frames(station):
            station.send(frame(int.from_bytes(question[14:22], "big") + 1_000))

    async def talk() -> None:
        answers = asyncio.create_task(answer(lan.station()))
        await ask(lan.station(), 200)
        answers.cancel()

    asyncio.run(talk())


def test_nothing_is_missed_between_the_last_look_and_the_sleep(lan: Lan) -> None:
    """A sender in a thread does not care when the receiver falls asleep."""
    alice, bob = lan.station(), lan.station()

    def send() -> None:
        for number in range(3_000):
            alice.send(frame(number))

    async def receive() -> list[bytes]:
        sender = asyncio.get_running_loop().run_in_executor(None, send)
        received: list[bytes] = []
        while len(received) < 3_000:
            received += await soon(aio.recv_burst(bob))
        await sender
        return received

    assert asyncio.run(receive()) == [frame(number) for number in range(3_000)]


def test_a_frame_wakes_long_before_the_limit_of_a_sleep(lan: Lan) -> None:
    """Were it the limit that wakes, fifty rounds would take five seconds."""
    alice, bob = lan.station(), lan.station()

    async def rounds() -> float:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for number in range(50):
            loop.call_later(0.005, alice.send, frame(number))
            assert await soon(aio.recv(bob)) == frame(number)
        return loop.time() - begin

    assert min(asyncio.run(rounds()) for _ in range(3)) < 2.5


def test_a_cancelled_wait_loses_no_frame(lan: Lan) -> None:
    alice, bob = lan.station(), lan.station()

    async def receive() -> None:
        for number in range(20):
            waits = asyncio.create_task(aio.recv(bob))
            await asyncio.sleep(0.001)
            waits.cancel()
            await asyncio.gather(waits, return_exceptions=True)
            assert waits.cancelled()
            alice.send(frame(number))
            assert await soon(aio.recv(bob)) == frame(number)

    asyncio.run(receive())


def test_a_flood_lets_other_tasks_run(lan: Lan) -> None:
    tap = lan.tap(oldest=True)
    lan.station().send_burst(frame(number) for number in range(5_000))

    async def count() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        runs = asyncio.create_task(other())
        for _ in range(5_000):
            await aio.recv(tap)
        runs.cancel()
        return turns

    assert asyncio.run(count()) > 1_000


def test_memif_is_awaited(tmp_path: Path) -> None:
    async def talk(server: shmlan.Memif, client: shmlan.Memif) -> None:
        client.wait_connected(timeout=30)
        for number in range(100):
            client.send(frame(number))
            assert await soon(aio.recv(server)) == frame(number)
            server.send(frame(number))
            assert await soon(aio.recv(client)) == frame(number)

    socket = tmp_path / "memif"
    with shmlan.Memif(socket, role="server") as server, shmlan.Memif(socket) as client:
        asyncio.run(talk(server, client))
