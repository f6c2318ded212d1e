"""The fixture lan: a bus of the test's own, with stations, hosts, and a capture when it fails.

    def test_a_host_answers(lan):
        lan.host("10.0.0.1/24")
        assert lan.ping("10.0.0.1", source="10.0.0.2/24")

pytest loads it by itself where shmlan is installed. When the test fails, the newest megabyte of
frames is kept as a pcap file in the test's tmp_path, or in the folder that --lan-captures names.
"""

import os
import re
import shutil
import struct
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Generator, Optional

import pytest

from . import Bus, Receiver, Station, Tap

__all__ = ["Host", "Lan", "lan"]

READY_SECONDS = 30.0
"""How long a host may take until it is ready."""
STOP_SECONDS = 10.0
"""How long it may take to end."""


class Host:
    """A host on the bus: a process of busctl."""

    def __init__(self, command: list[str], log: Path) -> None:
        with log.open("wb") as stderr:
            # It ends with pytest, even if that is killed.
            environment = {**os.environ, "BUSCTL_END_WITH_PARENT": str(os.getpid())}
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, env=environment
            )
        assert self.process.stdout is not None
        alarm = threading.Timer(READY_SECONDS, self.process.kill)
        alarm.start()
        try:
            is_ready = any(line.strip() == b"ready" for line in self.process.stdout)
        finally:
            alarm.cancel()
        if not is_ready:
            self.stop()
            trouble = log.read_text(errors="replace").strip()
            raise RuntimeError(f"the host did not become ready: {trouble or 'it was killed'}")

    def stop(self) -> None:
        """Ends the host, as SIGTERM does. Stopping it again does nothing."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Lan:
    """A bus in a folder of its own. It is a path: pass it where a bus is wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "lan"
        self._open = ExitStack()
        self._hosts = 0
        self.bus: Bus = self._open.enter_context(Bus(self.path, create=True))

    def __fspath__(self) -> str:
        return str(self.path)

    def station(self, **options: Any) -> Station:
        """Joins the bus, until the test ends. The keywords are those of Station."""
        return self._open.enter_context(Station(self.path, create=False, **options))

    def tap(self, *, oldest: bool = False) -> Tap:
        """Makes a tap on the bus, until the test ends."""
        return self._open.enter_context(Tap(self.path, oldest=oldest))

    def host(self, *addresses: str, name: Optional[str] = None) -> Host:
        """Starts a host with these addresses, such as "10.0.0.1/24", and waits until it is ready.

        It answers ARP, neighbor discovery and ping, and echoes UDP and TCP on port 7, until the test
        ends.
        """
        options = [] if name is None else ["--name", name]
        self._hosts += 1
        log = self.folder / f"host-{self._hosts}.log"
        host = Host([busctl(), "host", str(self.path), *addresses, *options], log)
        self._open.callback(host.stop)
        return host

    def ping(self, address: str, *, source: str, count: int = 1) -> bool:
        """Pings an address from a host of its own, such as "10.0.0.2/24". Returns whether all
        requests were answered."""
        command = [busctl(), "ping", str(self.path), address, "--from", source]
        options = ["-c", str(count), "-i", "0.01"]
        ping = subprocess.run([*command, *options], capture_output=True, check=False)
        if ping.returncode > 1:
            raise RuntimeError(ping.stderr.decode(errors="replace").strip())
        return ping.returncode == 0

    def capture(self, path: Path) -> int:
        """Writes the newest megabyte of frames to a pcap file; returns how many."""
        with Tap(self.path, oldest=True) as tap, path.open("wb") as file:
            return write_pcap(tap, file.write)

    def close(self) -> None:
        """Ends all hosts and closes all stations, the newest first."""
        self._open.close()


def busctl() -> str:
    """Returns the program busctl: $BUSCTL, or the one on the path."""
    program = os.environ.get("BUSCTL") or shutil.which("busctl")
    if program is None:
        raise FileNotFoundError("busctl is not on the path: install it, or set BUSCTL to where it is")
    return program


def write_pcap(receiver: Receiver, write: Any) -> int:
    """Writes the frames that are there in the format of libpcap; returns how many."""
    write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    count = 0
    while burst := receiver.recv_stamped(timeout=0):
        for when, frame in burst:
            seconds, fraction = divmod(when, 1)
            micros = min(round(fraction * 1_000_000), 999_999)
            write(struct.pack("=IIII", int(seconds), micros, len(frame), len(frame)))
            write(frame)
        count += len(burst)
    return count


LAN = pytest.StashKey[Lan]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("lan").addoption(
        "--lan-captures",
        metavar="DIR",
        type=Path,
        help="keep the captures of failed tests in DIR, and not in their tmp_path",
    )


@pytest.fixture
def lan(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Lan, None, None]:
    """A LAN of the test's own: a bus in a temporary folder."""
    lan = Lan(tmp_path)
    request.node.stash[LAN] = lan
    try:
        yield lan
    finally:
        lan.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Keeps the capture of a test that failed, and says where."""
    report: pytest.TestReport = (yield).get_result()
    lan = item.stash.get(LAN, None)
    if lan is None or not report.failed:
        return
    folder: Optional[Path] = item.config.getoption("--lan-captures")
    path = lan.folder / "lan.pcap"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (re.sub(r"[^\w.-]+", "_", item.nodeid) + ".pcap")
    try:
        text = f"{lan.capture(path)} frames in {path}"
    except OSError as error:
        # The test may have broken its bus. Its own failure is what matters.
        text = f"no capture: {error}"
    report.sections.append(("Captured lan", text))
