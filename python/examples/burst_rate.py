"""Measures how many frames of 64 bytes a second go from one process of Python to another.

    python burst_rate.py [--memif] [--burst 256] [--seconds 2] [--size 64]

The sender numbers its frames. The receiver counts those that came and those that are missing: a bus
loses the frames of a reader that is too slow, memif loses none.
"""

import argparse
import multiprocessing
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import shmlan


def receive(options: argparse.Namespace, path: Path, ready: Event, done: Event) -> None:
    if options.memif:
        receiver: shmlan.Receiver = shmlan.Memif(path, role="server")
    else:
        receiver = shmlan.Station(path, create=False)
    with receiver:
        ready.set()
        received, last, begin = 0, 0, 0.0
        while True:
            frames = receiver.recv_burst(1024, timeout=0.1)
            if frames:
                begin = begin or time.perf_counter()
                end = time.perf_counter()
                received += len(frames)
                last = int.from_bytes(frames[-1][14:22], "big")
            elif done.is_set():
                break
    rate = received / (end - begin) / 1e6
    lost = last - received
    print(f"{rate:.2f} million frames/s received, {received} in all, {lost} lost")


def send(options: argparse.Namespace, path: Path) -> int:
    sender = shmlan.Memif(path) if options.memif else shmlan.Station(path, create=False)
    head, filling = b"\xff" * 6 + b"\x02\0\0\0\0\1\x88\xb5", bytes(options.size - 22)
    with sender:
        if isinstance(sender, shmlan.Memif):
            sender.wait_connected(timeout=10)
        number, end = 0, time.perf_counter() + options.seconds
        while time.perf_counter() < end:
            numbers = range(number + 1, number + 1 + options.burst)
            frames = [head + n.to_bytes(8, "big") + filling for n in numbers]
            if isinstance(sender, shmlan.Memif):
                number += sender.send_burst(frames, timeout=10)
            else:
                number += sender.send_burst(frames)
        if isinstance(sender, shmlan.Memif):
            # The link ends with the sender; what is on it is lost.
            time.sleep(0.2)
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memif", action="store_true", help="over memif instead of a bus")
    parser.add_argument("--burst", type=int, default=256, help="frames in a burst")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to send")
    parser.add_argument("--size", type=int, default=64, help="bytes of a frame, from 22 on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "link"
        if not options.memif:
            shmlan.Bus(path, create=True).close()
        context = multiprocessing.get_context("spawn")
        ready, done = context.Event(), context.Event()
        receiver = context.Process(target=receive, args=(options, path, ready, done))
        receiver.start()
        ready.wait()
        sent = send(options, path)
        done.set()
        receiver.join()
        print(f"{sent / options.seconds / 1e6:.2f} million frames/s sent")


if __name__ == "__main__":
    main()
