"""scapy on a bus, with busctl's hosts as peers."""

import threading
from typing import Iterator

import pytest

pytest.importorskip("scapy")

import shmlan  # noqa: E402
from scapy.all import AsyncSniffer, sniff  # noqa: E402
from scapy.layers.inet import ICMP, IP, UDP  # noqa: E402
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6  # noqa: E402
from scapy.layers.l2 import ARP, Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402
from shmlan.pytest_plugin import Lan  # noqa: E402
from shmlan.scapy import BusSocket  # noqa: E402


@pytest.fixture
def bus(lan: Lan) -> Iterator[BusSocket]:
    with BusSocket(lan, ip="10.0.0.9", mac="02:00:00:00:00:09") as bus:
        yield bus


def test_sr1_pings_a_host(lan: Lan, bus: BusSocket, busctl: str) -> None:
    """The host asks for the address of the socket, which answers."""
    lan.host("10.0.0.1/24")
    reply = bus.sr1(IP(dst="10.0.0.1") / ICMP(id=7) / b"hello", timeout=10, verbose=0)
    assert reply is not None and isinstance(reply, IP)
    assert (reply[ICMP].type, reply[ICMP].id, reply[Raw].load) == (0, 7, b"hello")
    with_header = bus.sr1(Ether() / IP(dst="10.0.0.1") / ICMP(), timeout=10, verbose=0)
    assert isinstance(with_header, Ether) and with_header.dst == "02:00:00:00:00:09"


def test_sr_asks_several_hosts(lan: Lan, bus: BusSocket, busctl: str) -> None:
    lan.host("10.0.0.1/24")
    lan.host("10.0.0.2/24")
    requests = [IP(dst=f"10.0.0.{host}") / UDP(sport=1234, dport=7) / b"echo" for host in (1, 2)]
    answered, unanswered = bus.sr(requests, timeout=10, verbose=0)
    assert sorted(answer[IP].src for _, answer in answered) == ["10.0.0.1", "10.0.0.2"]
    assert len(unanswered) == 0


def test_sr1_over_ipv6(lan: Lan, busctl: str) -> None:
    lan.host("fd00::1/64")
    with BusSocket(lan, ip="fd00::9") as bus:
        reply = bus.sr1(IPv6(dst="fd00::1") / ICMPv6EchoRequest(data=b"hi"), timeout=10, verbose=0)
    assert reply is not None and reply[ICMPv6EchoReply].data == b"hi"


def test_a_neighbor_that_is_not_there_is_named(bus: BusSocket) -> None:
    with pytest.raises(TimeoutError, match="no host on the bus has 10.0.0.77"):
        bus.send(IP(dst="10.0.0.77") / ICMP())


def test_without_an_address_the_way_is_named(lan: Lan) -> None:
    with BusSocket(lan) as bus:
        with pytest.raises(ValueError, match="ip=.*Ether"):
            bus.send(IP(dst="10.0.0.1") / ICMP())
        with pytest.raises(ValueError, match="needs an Ethernet header"):
            bus.send(ARP())
        assert bus.send(Ether(dst="02:00:00:00:00:01") / IP(dst="10.0.0.1") / ICMP()) > 0


def test_the_answer_comes_from_the_station_that_asked(lan: Lan, bus: BusSocket) -> None:
    """A host of our own answers ARP and nothing else, so that scapy's own matching is seen."""
    station = lan.station(mac="02:00:00:00:00:01")

    def answer() -> None:
        while request := Ether(station.recv(timeout=10)):
            if ARP in request:
                reply = ARP(op=2, hwsrc=station.mac, psrc="10.0.0.1", pdst="10.0.0.9")
                station.send(bytes(Ether(dst=request.src, src=station.mac) / reply))
            elif ICMP in request:
                assert (request.src, request[IP].src) == ("02:00:00:00:00:09", "10.0.0.9")
                echo = IP(src="10.0.0.1", dst="10.0.0.9") / ICMP(type=0, id=request[ICMP].id)
                station.send(bytes(Ether(dst=request.src, src=station.mac) / echo))
                return

    answers = threading.Thread(target=answer)
    answers.start()
    assert bus.sr1(IP(dst="10.0.0.1") / ICMP(id=5), timeout=10, verbose=0)[ICMP].id == 5
    answers.join(30)


def test_sniff_sees_what_others_say_to_each_other(lan: Lan, bus: BusSocket) -> None:
    alice = lan.station()
    sent = [Ether(dst="02:00:00:00:00:77") / IP(dst="10.0.0.1") / UDP(dport=n) for n in range(100)]
    alice.send_burst(bytes(one) for one in sent)
    seen = sniff(opened_socket=bus, count=100, timeout=10)
    assert [bytes(one) for one in seen] == [bytes(one) for one in sent]
    assert seen[0].time > 1_000_000_000


def test_a_sniffer_in_the_background_stops_at_once(lan: Lan, bus: BusSocket) -> None:
    alice, seen = lan.station(), threading.Event()
    sniffer = AsyncSniffer(opened_socket=bus, prn=lambda _packet: seen.set(), store=True)
    sniffer.start()
    alice.send(bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / b"hello"))
    assert seen.wait(10)
    packets = sniffer.stop()
    assert packets is not None and len(packets) == 1


def test_a_closed_socket_has_left(lan: Lan) -> None:
    with BusSocket(lan, name="scapy") as bus:
        assert [member.name for member in lan.bus.members()] == ["scapy"]
    assert lan.bus.stations() == 0
    with pytest.raises(ValueError, match="closed"):
        bus.send(b"\xff" * 60)


def test_a_socket_that_cannot_be_opened_raises(lan: Lan) -> None:
    with pytest.raises(ValueError, match="is no address"):
        BusSocket(lan, mac="nonsense")
    with pytest.raises(ValueError):
        BusSocket(lan, ip="300.0.0.1")
    with pytest.raises(FileNotFoundError):
        BusSocket(lan.folder / "missing", create=False)
    assert isinstance(lan.bus, shmlan.Bus)
