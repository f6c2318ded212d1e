"""Buses, stations and taps."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import PIPE
from typing import Callable

import pytest
from frames import frame, packed

import shmlan
from shmlan.pytest_plugin import Lan


def test_a_station_hears_others_and_not_itself(lan: Lan) -> None:
    alice, bob = lan.station(), lan.station()
    alice.send(frame(1))
    assert bob.recv(timeout=5) == frame(1)
    assert alice.recv_burst(timeout=0) == []


def test_a_station_receives_what_is_for_it(lan: Lan) -> None:
    alice, bob, promiscuous = lan.station(), lan.station(), lan.station(promiscuous=True)
    others = frame(1, to=packed("02:00:00:00:00:99"))
    to_bob = frame(2, to=packed(bob.mac))
    assert alice.send_burst([others, to_bob]) == 2
    assert bob.recv_burst(timeout=5) == [to_bob]
    assert promiscuous.recv_burst(timeout=5) == [others, to_bob]


@pytest.mark.parametrize("size", [14, 15, 60, 64, 1513, 1514])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_frames_of_any_size_and_kind_arrive_whole(lan: Lan, size: int, kind: type) -> None:
    alice, bob = lan.station(), lan.station()
    sent = [frame(number, size) for number in range(100)]
    assert alice.send_burst(kind(one) for one in sent) == 100
    received: list[bytes] = []
    while len(received) < 100:
        received += bob.recv_burst(timeout=5)
    assert received == sent
    assert all(type(one) is bytes for one in received)


def test_a_memoryview_with_gaps_is_sent_as_its_bytes(lan: Lan) -> None:
    alice, bob = lan.station(), lan.station()
    view = memoryview(frame(1, 128))[::2]
    alice.send(view)
    assert bob.recv(timeout=5) == bytes(view)


def test_a_burst_is_limited_and_the_rest_stays(lan: Lan) -> None:
    alice, bob = lan.station(), lan.station()
    sent = [frame(number) for number in range(10)]
    alice.send_burst(sent)
    assert bob.recv(timeout=5) == sent[0]
    assert bob.recv_burst(4, timeout=5) == sent[1:5]
    assert bob.recv_burst(timeout=5) == sent[5:]


def test_frames_have_the_time_they_were_sent(lan: Lan) -> None:
    alice, bob = lan.station(), lan.station()
    before = time.time()
    alice.send(frame(1))
    ((when, received),) = bob.recv_stamped(timeout=5)
    # The bus has microseconds.
    assert before - 1e-5 <= when <= time.time()
    assert received == frame(1)


@pytest.mark.parametrize("bad", [b"", b"\xff" * 13, b"\xff" * 1515])
def test_frames_that_the_bus_cannot_carry_are_refused_with_their_place(lan: Lan, bad: bytes) -> None:
    alice, bob = lan.station(), lan.station()
    with pytest.raises(ValueError, match=f"frame 1 of the burst is {len(bad)} bytes"):
        alice.send_burst([frame(1), bad])
    assert bob.recv_burst(timeout=0) == [], "nothing of the burst is sent"


@pytest.mark.parametrize("bad", ["text", 7, None, [1, 2, 3]])
def test_what_is_no_frame_is_a_type_error(lan: Lan, bad: object) -> None:
    alice = lan.station()
    with pytest.raises(TypeError):
        alice.send(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        alice.send_burst([frame(1), bad])  # type: ignore[list-item]


def test_a_burst_that_is_one_frame_by_mistake_is_a_type_error(lan: Lan) -> None:
    with pytest.raises(TypeError):
        lan.station().send_burst(frame(1))  # type: ignore[arg-type]


def test_a_burst_may_lie_about_its_length(lan: Lan) -> None:
    class Liar(list[bytes]):
        def __len__(self) -> int:
            return sys.maxsize

    alice, bob = lan.station(), lan.station()
    assert alice.send_burst(Liar([frame(1)])) == 1
    assert bob.recv_burst(timeout=5) == [frame(1)]


def test_a_burst_of_no_frames_is_refused(lan: Lan) -> None:
    assert lan.station().send_burst([]) == 0
    with pytest.raises(ValueError, match="max_frames"):
        lan.station().recv_burst(0)


def test_a_tap_sees_all_and_what_was_before(lan: Lan) -> None:
    alice = lan.station()
    alice.send(frame(1))
    now, oldest = lan.tap(), lan.tap(oldest=True)
    alice.send(frame(2, to=packed("02:00:00:00:00:99")))
    seen = now.recv_burst(timeout=5)
    assert [one[14:22] for one in seen] == [frame(2)[14:22]]
    assert len(oldest.recv_burst(timeout=5)) == 2
    assert oldest.stats()["rx_packets"] == 2


def test_a_timeout_ends_a_wait(lan: Lan) -> None:
    alice = lan.station()
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        alice.recv(timeout=0.05)
    assert alice.recv_burst(timeout=0.05) == []
    assert time.monotonic() - begin >= 0.1


@pytest.mark.parametrize("timeout", [-1.0, float("nan"), float("-inf")])
def test_a_timeout_that_is_none_is_refused(lan: Lan, timeout: float) -> None:
    with pytest.raises(ValueError, match="no time in seconds"):
        lan.station().recv(timeout=timeout)


def test_an_endless_timeout_is_no_timeout(lan: Lan) -> None:
    alice, bob = lan.station(), lan.station()
    alice.send(frame(1))
    assert bob.recv(timeout=1e15) == frame(1)


def test_a_thread_that_waits_lets_others_run_and_send(lan: Lan) -> None:
    alice, bob = lan.station(), lan.station()
    received: list[bytes] = []
    waits = threading.Thread(target=lambda: received.append(bob.recv(timeout=30)))
    waits.start()
    # Through the same station that the other thread waits with.
    bob.send(frame(1))
    assert alice.recv(timeout=5) == frame(1)
    alice.send(frame(2))
    waits.join(30)
    assert received == [frame(2)]


def test_many_threads_share_a_station(lan: Lan) -> None:
    """Every frame is received by one of them, once."""
    sender, shared = lan.station(), lan.station()
    total, received, lock = 2000, list[bytes](), threading.Lock()

    def receive() -> None:
        while burst := shared.recv_burst(7, timeout=0.5):
            with lock:
                received.extend(burst)

    threads = [threading.Thread(target=receive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for first in range(0, total, 20):
        sender.send_burst(frame(number) for number in range(first, first + 20))
    for thread in threads:
        thread.join(60)
    assert sorted(received) == sorted(frame(number) for number in range(total))


def test_what_is_closed_raises_and_may_be_closed_again(lan: Lan) -> None:
    with shmlan.Station(lan) as station, shmlan.Tap(lan) as tap:
        assert not station.closed
    uses: list[Callable[[], object]] = [station.flush, station.stats, tap.stats]
    uses += [lambda: station.send(frame(1)), lambda: station.mac, lambda: tap.removed]
    for receiver in (station, tap):
        assert receiver.closed
        receiver.close()
        uses += [receiver.recv, receiver.recv_burst, receiver.fileno, receiver.arm, receiver.disarm]
    for use in uses:
        with pytest.raises(ValueError, match="the (station|tap) is closed"):
            use()


def test_a_closed_station_has_left_the_bus(lan: Lan) -> None:
    with lan.bus as bus, shmlan.Station(lan, name="guest"):
        assert [member.name for member in bus.members()] == ["guest"]
        assert bus.members()[0].pid == os.getpid()
        assert bus.stations() == 1
        lan.station().close()
        assert bus.stations() == 1


def test_closed_objects_leave_no_descriptor_and_no_mapping(lan: Lan) -> None:
    def open_and_close() -> None:
        with shmlan.Station(lan) as station, shmlan.Tap(lan) as tap, shmlan.Bus(lan):
            station.send(frame(1))
            assert tap.recv(timeout=5) == frame(1)
            assert station.recv_burst(timeout=0.001) == []
        # Without closing: they close when they are deleted.
        shmlan.Station(lan), shmlan.Tap(lan), shmlan.Bus(lan)

    def held() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text()
        return len(os.listdir("/proc/self/fd")), maps.count(str(lan.path))

    open_and_close()
    before = held()
    for _ in range(50):
        open_and_close()
    assert held() == before


def test_closing_ends_the_wait_of_another_thread(lan: Lan) -> None:
    station = lan.station()
    errors: list[str] = []

    def wait() -> None:
        try:
            station.recv()
        except ValueError as error:
            errors.append(str(error))

    waits = threading.Thread(target=wait)
    waits.start()
    # The interpreter runs another thread only where this one lets it: the other waits by then.
    waits.join(0.05)
    station.close()
    waits.join(30)
    assert not waits.is_alive()
    assert errors == ["the station is closed"]


WAITS = """
import sys, shmlan
station = shmlan.Station(sys.argv[1])
try:
    print("waits", flush=True)
    station.recv()
except KeyboardInterrupt:
    station.close()
    print("interrupted", flush=True)
"""


def test_control_c_ends_a_wait(lan: Lan) -> None:
    command = [sys.executable, "-c", WAITS, str(lan.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waits\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
    assert child.returncode == 0


def test_the_program_names_its_station(lan: Lan) -> None:
    script = lan.folder / "my-probe.py"
    script.write_text("import sys, shmlan; s = shmlan.Station(sys.argv[1]); print(flush=True); input()")
    command = [sys.executable, str(script), str(lan.path)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        assert [member.name for member in lan.bus.members()] == ["my-probe.py"]
        child.stdin.close()


def test_a_forked_child_cannot_harm_the_station_of_its_parent(lan: Lan) -> None:
    station, other = lan.station(), lan.station()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            station.send(frame(1))
        except ValueError as error:
            code = 0 if "after a fork" in str(error) else 2
        station.close()
        del station
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lan.bus.stations() == 2
    station.send(frame(2))
    assert other.recv_burst(timeout=5) == [frame(2)]


def test_a_bus_is_made_and_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with shmlan.Bus(path, create=True, mode=0o640, size=4 << 20) as bus:
        assert (bus.size, bus.max_frame, bus.shmif) == (4 << 20, 9216, False)
        assert path.stat().st_mode & 0o777 == 0o640
        with shmlan.Station(bus, mac="02:00:00:00:00:07") as station, shmlan.Tap(bus) as tap:
            assert (station.mac, station.path, station.mtu) == ("02:00:00:00:00:07", path, 9202)
            station.send(frame(1, 9216))
            assert tap.recv(timeout=5) == frame(1, 9216)
        assert not bus.removed
        path.unlink()
        assert bus.removed
    with pytest.raises(ValueError, match="the bus is closed"):
        bus.stations()
    assert bus.path == path


def test_what_is_no_bus_says_what_to_do(tmp_path: Path) -> None:
    missing, text = tmp_path / "missing", tmp_path / "text"
    text.write_text("no bus")
    for open_one in (shmlan.Bus, shmlan.Tap):
        with pytest.raises(FileNotFoundError, match="cannot open bus .*missing: no such file"):
            open_one(missing)
    with pytest.raises(FileNotFoundError):
        shmlan.Station(missing, create=False)
    assert not missing.exists()
    with pytest.raises(shmlan.BusError, match="is not a bus: it is 6 bytes long|starts with"):
        shmlan.Station(text)
    assert text.read_text() == "no bus"
    with pytest.raises(ValueError, match="a bus cannot have 5 bytes"):
        shmlan.Bus(missing, create=True, size=5)
    with pytest.raises(FileNotFoundError):
        shmlan.Station(tmp_path / "no folder" / "lan")


def test_a_station_makes_its_bus(tmp_path: Path) -> None:
    with shmlan.Station(tmp_path / "lan"):
        assert (tmp_path / "lan").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mac": "nonsense"}, "is no address"),
        ({"mac": "01:00:00:00:00:01"}, "group"),
        ({"vlan": 4095}, "VLAN 4095"),
        ({"lock_timeout": -1.0}, "no time in seconds"),
    ],
)
def test_options_are_checked(lan: Lan, options: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        lan.station(**options)
    assert lan.bus.stations() == 0


def test_a_bus_that_is_cut_short_is_an_exception(lan: Lan) -> None:
    alice, tap = lan.station(), lan.tap()
    os.truncate(lan, 0)
    with pytest.raises(shmlan.LostError, match="is gone"):
        alice.send(frame(1))
    with pytest.raises(shmlan.LostError, match="is gone"):
        alice.recv(timeout=5)
    with pytest.raises(shmlan.LostError, match="is gone"):
        tap.recv(timeout=5)


def test_a_lock_that_is_not_free_is_busy(lan: Lan) -> None:
    """As a rump kernel's that died. It is held by a process that maps the bus, so none frees it."""
    holds = """
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    bus = mmap.mmap(file.fileno(), 0)
bus[int(sys.argv[2])] = 1
print("held", flush=True)
sys.stdin.read()
"""
    alice = lan.station(lock_timeout=0.05)
    command = [sys.executable, "-c", holds, str(lan.path), "24"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        with pytest.raises(shmlan.BusyError, match="held the lock") as busy:
            alice.send(frame(1))
        assert busy.value.sent == 0
        child.stdin.close()


def test_a_vlan_is_seen_by_taps_and_not_by_its_stations(lan: Lan) -> None:
    alice, bob, outside, tap = lan.station(vlan=10), lan.station(vlan=10), lan.station(), lan.tap()
    alice.send(frame(1))
    assert bob.recv(timeout=5) == frame(1)
    assert tap.recv(timeout=5)[12:16] == bytes.fromhex("8100000a")
    assert outside.recv(timeout=5)[12:14] == b"\x81\x00"
    assert bob.max_frame == outside.max_frame - 4


def test_properties_change_the_station(lan: Lan) -> None:
    alice, bob = lan.station(), lan.station()
    bob.mac = "02:00:00:00:00:0b"
    assert [member.mac for member in lan.bus.members()].count("02:00:00:00:00:0b") == 1
    bob.promiscuous = True
    alice.send(frame(1, to=packed("02:00:00:00:00:99")))
    assert len(bob.recv_burst(timeout=5)) == 1
    bob.link_up = False
    alice.send(frame(2))
    assert (bob.recv_burst(timeout=0), bob.link_up) == ([], False)
    bob.link_up = True
    alice.mtu = 100
    assert alice.max_frame == 114
    with pytest.raises(ValueError, match="MTU of 9000"):
        alice.mtu = 9000
    assert alice.stats()["tx_packets"] == 2


def test_objects_show_what_they_are(lan: Lan) -> None:
    station, tap = lan.station(mac="02:00:00:00:00:01", name="me"), lan.tap()
    assert repr(station) == f"<shmlan.Station 02:00:00:00:00:01 on {lan.path}>"
    assert repr(tap) == f"<shmlan.Tap on {lan.path}>"
    assert repr(lan.bus) == f"<shmlan.Bus {lan.path}>"
    assert repr(lan.bus.members()[0]) == f'<shmlan.Member 02:00:00:00:00:01 "me", process {os.getpid()}>'
