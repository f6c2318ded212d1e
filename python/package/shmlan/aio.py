"""Frames awaited in asyncio.

A task waits for a Station, a Tap or a Memif without a thread. The loop polls their descriptor, and
nothing is missed between the last look and the sleep:

    async def reflect(station: shmlan.Station) -> None:
        async for frame in shmlan.aio.frames(station):
            station.send(frame[6:12] + frame[:6] + frame[12:])

One task at a time receives from each; cancel it before you close what it waits for. Sending needs no
await. Where a memif peer may have no room, send with a timeout of 0, and try again later.
"""

import asyncio
from typing import AsyncIterator

from . import Receiver

__all__ = ["frames", "readable", "recv", "recv_burst"]


async def readable(receiver: Receiver) -> None:
    """Waits until there may be something to receive. It need not be for this station."""
    loop = asyncio.get_running_loop()
    # An endless flow of frames must not keep other tasks from running.
    await asyncio.sleep(0)
    while not receiver.arm():
        woken: asyncio.Future[None] = loop.create_future()

        def wake(woken: "asyncio.Future[None]" = woken) -> None:
            if not woken.done():
                woken.set_result(None)

        descriptor = receiver.fileno()
        loop.add_reader(descriptor, wake)
        # A sender may die before it wakes others, so each sleeper looks now and then.
        look = loop.call_later(receiver.sleep_limit, wake)
        try:
            await woken
        finally:
            look.cancel()
            loop.remove_reader(descriptor)
            if not receiver.closed:
                receiver.disarm()


async def recv_burst(receiver: Receiver, max_frames: int = 256) -> list[bytes]:
    """Receives the frames that are there, at most max_frames, and waits for the first of them.

    Cancelling it loses no frame.
    """
    while True:
        await readable(receiver)
        burst = receiver.recv_burst(max_frames, timeout=0)
        if burst:
            return burst


async def recv(receiver: Receiver) -> bytes:
    """Receives one frame. Cancelling it loses no frame."""
    (frame,) = await recv_burst(receiver, 1)
    return frame


async def frames(receiver: Receiver, max_frames: int = 256) -> AsyncIterator[bytes]:
    """Yields frames as they come, until the task is cancelled."""
    while True:
        for frame in await recv_burst(receiver, max_frames):
            yield frame
