"""memif interfaces in both roles, with each other and with real peers."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest
from conftest import Require
from frames import frame, packed

import shmlan
from shmlan.pytest_plugin import Host, Lan


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "memif.sock"


@pytest.fixture
def pair(socket: Path) -> Iterator[tuple[shmlan.Memif, shmlan.Memif]]:
    """A server and a client that are connected."""
    with shmlan.Memif(socket, role="server", name="there") as server:
        with shmlan.Memif(socket, name="here") as client:
            client.wait_connected(timeout=30)
            server.wait_connected(timeout=30)
            yield server, client


def receive(memif: shmlan.Receiver, count: int) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < count:
        burst = memif.recv_burst(timeout=30)
        assert burst, f"{len(frames)} of {count} frames came"
        frames += burst
    return frames


def test_both_roles_send_and_receive(pair: tuple[shmlan.Memif, shmlan.Memif]) -> None:
    server, client = pair
    assert (server.role, client.role) == ("server", "client")
    assert server.peer is not None and client.peer is not None
    assert (server.peer.name, client.peer.name) == ("here", "there")
    assert client.peer.app_name.startswith("shmlan ")
    for number, size in enumerate([1, 60, 64, 1514, 2048, 2049, 9000, 65535]):
        for sender, receiver in ((server, client), (client, server)):
            sender.send(frame(number, size), timeout=30)
            assert receiver.recv(timeout=30) == frame(number, size)
    assert server.stats()["rx_packets"] == client.stats()["tx_packets"] == 8


def test_a_burst_larger_than_the_ring_waits_for_room(pair: tuple[shmlan.Memif, shmlan.Memif]) -> None:
    server, client = pair
    sent = [frame(number) for number in range(5_000)]
    assert client.send_burst(sent) < 5_000, "the ring has no room for all"
    receive(server, client.stats()["tx_packets"])
    with_room = threading.Thread(target=lambda: client.send_burst(sent, timeout=30))
    with_room.start()
    assert receive(server, 5_000) == sent
    with_room.join(30)


def test_a_full_ring_is_a_timeout(pair: tuple[shmlan.Memif, shmlan.Memif]) -> None:
    _server, client = pair
    assert 0 < client.send_burst([frame(1)] * 5_000) < 5_000
    with pytest.raises(TimeoutError, match="no room"):
        client.send(frame(2), timeout=0.01)
    assert client.send_burst([frame(2)]) == 0


@pytest.mark.parametrize("bad", [b"", b"x" * 65_536])
def test_packets_that_memif_cannot_carry_are_refused(
    pair: tuple[shmlan.Memif, shmlan.Memif], bad: bytes
) -> None:
    with pytest.raises(ValueError, match="frame 1 of the burst is"):
        pair[1].send_burst([frame(1), bad])


def test_a_packet_that_never_fits_is_refused(socket: Path) -> None:
    with shmlan.Memif(socket, role="server"):
        with shmlan.Memif(socket, ring_size=4, buffer_size=64) as client:
            client.wait_connected(timeout=30)
            client.send(frame(1, 256), timeout=30)
        with shmlan.Memif(socket, ring_size=4, buffer_size=64) as client:
            client.wait_connected(timeout=30)
            with pytest.raises(ValueError, match="longer than all buffers"):
                client.send(frame(1, 257), timeout=30)


def test_without_a_peer_it_says_why(socket: Path) -> None:
    with shmlan.Memif(socket, reconnect=0.01) as client:
        with pytest.raises(shmlan.LinkDownError, match="there is no peer"):
            client.send(frame(1))
        with pytest.raises(TimeoutError, match="no peer came in time: .*memif.sock"):
            client.wait_connected(timeout=0.05)
        assert not client.connected
        assert client.peer is None
        # It comes later, and the client finds it.
        with shmlan.Memif(socket, role="server") as server:
            client.wait_connected(timeout=30)
            assert client.why_down is None
            client.send(frame(1), timeout=30)
            assert server.recv(timeout=30) == frame(1)
        while client.connected:
            time.sleep(0.001)
        assert client.why_down is not None


def test_a_client_returns_and_counts_all_links(socket: Path) -> None:
    with shmlan.Memif(socket, role="server") as server:
        for number in range(5):
            with shmlan.Memif(socket) as client:
                client.wait_connected(timeout=30)
                client.send(frame(number), timeout=30)
                assert server.recv(timeout=30) == frame(number)
        assert server.stats()["links"] == 5
        assert server.stats()["rx_packets"] == 5


def test_closed_interfaces_leave_no_descriptor_and_no_thread(socket: Path) -> None:
    def open_and_close() -> None:
        with shmlan.Memif(socket, role="server") as server, shmlan.Memif(socket) as client:
            client.wait_connected(timeout=30)
            client.send(frame(1), timeout=30)
            assert server.recv(timeout=30) == frame(1)

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    open_and_close()
    before = held()
    for _ in range(20):
        open_and_close()
    # The library closes what a peer sent on a thread of its own.
    deadline = time.monotonic() + 30
    while held() != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert held() == before


def test_secrets_modes_and_ids_must_agree(socket: Path) -> None:
    with shmlan.Memif(socket, role="server", secret="open sesame", id=3):
        for options, why in [
            ({"id": 3, "secret": "wrong"}, "secret"),
            ({"id": 4}, "4|interface"),
            ({"id": 3, "secret": "open sesame", "mode": "ip"}, "mode"),
        ]:
            with shmlan.Memif(socket, reconnect=None, **options) as client:  # type: ignore[arg-type]
                with pytest.raises(TimeoutError, match=f"(?i){why}"):
                    client.wait_connected(timeout=0.5)
        with shmlan.Memif(socket, id=3, secret="open sesame") as client:
            client.wait_connected(timeout=30)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"role": "master"}, "role"),
        ({"mode": "token ring"}, "mode"),
        ({"ring_size": 1000}, "a ring of 1000"),
        ({"ring_size": 1 << 15}, "ring size"),
        ({"buffer_size": 1}, "buffer size"),
        ({"queues": 0}, "queues"),
        ({"secret": ""}, "secret"),
        ({"role": "server", "ring_size": 64}, "client's choice"),
        ({"reconnect": -1.0}, "no time in seconds"),
    ],
)
def test_options_are_checked(socket: Path, options: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        shmlan.Memif(socket, **options)  # type: ignore[arg-type]


def test_a_socket_in_use_is_refused(socket: Path) -> None:
    with shmlan.Memif(socket, role="server"):
        with pytest.raises(shmlan.MemifError, match="in use by a running server"):
            shmlan.Memif(socket, role="server")
    with shmlan.Memif(socket, role="server"):
        pass
    assert not socket.exists()


def test_several_queues_are_heard(socket: Path) -> None:
    with shmlan.Memif(socket, role="server") as server, shmlan.Memif(socket, queues=3) as client:
        client.wait_connected(timeout=30)
        sent = [frame(number) for number in range(1_000)]
        client.send_burst(sent, timeout=30)
        assert receive(server, 1_000) == sent


def test_an_abstract_socket_and_packets_without_ethernet(tmp_path: Path) -> None:
    name = f"@{tmp_path}"
    with shmlan.Memif(name, role="server", mode="ip") as server:
        with shmlan.Memif(name, mode="ip") as client:
            client.wait_connected(timeout=30)
            client.send(b"\x45" + bytes(19), timeout=30)
            assert server.recv(timeout=30) == b"\x45" + bytes(19)


def test_what_is_closed_raises(socket: Path) -> None:
    with shmlan.Memif(socket, role="server") as server:
        pass
    for use in (server.recv, server.wait_connected, server.stats, lambda: server.send(b"x")):
        with pytest.raises(ValueError, match="the memif interface is closed"):
            use()


def test_a_sleeping_receiver_is_woken_in_time(pair: tuple[shmlan.Memif, shmlan.Memif]) -> None:
    """Were it the limit of a sleep that wakes, a hundred rounds would take ten seconds."""
    server, client = pair

    def reflect() -> None:
        for _ in range(100):
            client.send(client.recv(timeout=30))

    reflects = threading.Thread(target=reflect)
    reflects.start()
    begin = time.monotonic()
    for number in range(100):
        server.send(frame(number))
        assert server.recv(timeout=30) == frame(number)
    reflects.join(30)
    assert time.monotonic() - begin < 5


ARP = bytes.fromhex("0806 0001 0800 0604 0001")


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_host_behind_memif_answers(lan: Lan, socket: Path, busctl: str, role: str) -> None:
    """busctl host with the other role, asked by ARP for its address."""
    theirs = "server" if role == "client" else "client"
    command = [busctl, "host", f"memif:id=0,socket={socket},role={theirs}", "10.0.0.1/24"]
    with shmlan.Memif(socket, role=role, reconnect=0.05) as memif:  # type: ignore[arg-type]
        host = Host(command, lan.folder / "host.log")
        try:
            memif.wait_connected(timeout=30)
            us = packed("02:00:00:00:00:02")
            ask = b"\xff" * 6 + us + ARP + us + bytes([10, 0, 0, 2]) + bytes(6) + bytes([10, 0, 0, 1])
            memif.send(ask, timeout=30)
            while (answer := memif.recv(timeout=30))[20:22] != b"\x00\x02":
                pass
            assert answer[28:32] == bytes([10, 0, 0, 1])
            assert answer[:6] == us
        finally:
            host.stop()


@pytest.mark.parametrize("role", ["client", "server"])
def test_frames_go_through_a_node_onto_a_bus(lan: Lan, socket: Path, busctl: str, role: str) -> None:
    theirs = "server" if role == "client" else "client"
    attach = [busctl, "attach", str(lan.path), f"memif:id=0,socket={socket},role={theirs}"]
    with shmlan.Memif(socket, role=role, reconnect=0.05) as memif:  # type: ignore[arg-type]
        node = Host(attach, lan.folder / "node.log")
        station = lan.station()
        try:
            memif.wait_connected(timeout=30)
            # The port listens for loops before it lets frames pass.
            deadline = time.monotonic() + 30
            while not station.recv_burst(timeout=0.01):
                assert time.monotonic() < deadline
                memif.send(frame(0), timeout=30)
            station.recv_burst(10_000, timeout=0.1)
            sent = [frame(number) for number in range(1, 501)]
            memif.send_burst(sent, timeout=30)
            assert [one for one in receive(station, 500) if one != frame(0)] == sent
            station.send_burst(sent)
            assert receive(memif, 500) == sent
        finally:
            node.stop()


@pytest.mark.parametrize("role", ["client", "server"])
def test_testpmd_returns_every_frame(tmp_path: Path, require: Require, role: str) -> None:
    """DPDK forwards what it receives to the only port it has."""
    testpmd, socket = require("dpdk-testpmd"), tmp_path / "memif.sock"
    theirs = "server" if role == "client" else "client"
    device = f"net_memif0,role={theirs},socket={socket},socket-abstract=no,bsize=2048"
    command = [testpmd, "--lcores", "0@(0-1),1@(0-1)", "--main-lcore", "0", "--no-huge", "-m", "64"]
    command += ["--no-pci", "--no-telemetry", "--file-prefix", f"py{os.getpid()}", "--vdev", device]
    command += ["--", "-i", "--no-mlockall", "--nb-cores=1", "--total-num-mbufs=4096"]
    # What waits in the ring before it starts is forwarded, too.
    command += ["--forward-mode=io", "--no-flush-rx"]
    with shmlan.Memif(socket, role=role, reconnect=0.05) as memif:  # type: ignore[arg-type]
        with (tmp_path / "testpmd.log").open("wb") as log:
            # Its own files, too, go with the test.
            environment = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)}
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
            )
        try:
            memif.wait_connected(timeout=60)
            # Its driver does not cope with a link that comes up while it polls.
            assert process.stdin is not None
            process.stdin.write(b"start\n")
            process.stdin.flush()
            for size in (60, 64, 1_514):
                sent = [frame(number, size) for number in range(200)]
                assert memif.send_burst(sent, timeout=30) == 200
                assert receive(memif, 200) == sent
        finally:
            process.kill()
            process.communicate()


def test_control_c_ends_a_wait_for_a_peer(socket: Path) -> None:
    waits = """
import sys, shmlan
memif = shmlan.Memif(sys.argv[1], role="server")
try:
    print("waits", flush=True)
    memif.wait_connected()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    command = [sys.executable, "-c", waits, str(socket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waits\n"
        child.send_signal(2)
        assert child.stdout.readline() == "interrupted\n"
    assert not socket.exists()
