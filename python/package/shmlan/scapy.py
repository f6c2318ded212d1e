"""A socket for scapy on a bus.

    >>> from scapy.all import ICMP, IP
    >>> from shmlan.scapy import BusSocket
    >>> with BusSocket("/dev/shm/lan", ip="10.0.0.9") as bus:
    ...     bus.sr1(IP(dst="10.0.0.1") / ICMP(), timeout=2)

It is a SuperSocket: it has sniff, sr and sr1, and scapy's own functions take it as opened_socket. Let
sniff choose packets by lfilter: scapy ignores filter on a socket that is open already.
With ip it is a host of one address: it answers when others ask for the address (ARP and neighbor
discovery), and packets without an Ethernet header are sent to the neighbor that has their
destination.
"""

import select
import struct
import time
from collections import deque
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Iterable, Optional, Union

from scapy.config import conf
from scapy.data import MTU
from scapy.layers.inet import IP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet
from scapy.supersocket import SuperSocket

from . import Station

if TYPE_CHECKING:
    from _typeshed import StrPath

__all__ = ["BusSocket"]

Address = Union[IPv4Address, IPv6Address]

ARP_TYPE = b"\x08\x06"
IPV6_TYPE = b"\x86\xdd"
BROADCAST = "ff:ff:ff:ff:ff:ff"
MAX_WAITING = 4096
"""Frames that wait to be read. Of more, the oldest are lost."""
ASK_TIMES = 3
"""How often a neighbor is asked for."""
ASK_SECONDS = 0.5
"""How long its answer may take each time."""


class BusSocket(SuperSocket):
    """A station on a bus, for scapy. Other keywords than ip are those of Station.

    It is promiscuous unless promiscuous is False, as scapy's sockets are.
    """

    desc = "read and write the frames of a shared-memory bus"
    closed = False

    def __init__(self, path: "StrPath", *, ip: Optional[str] = None, **options: Any) -> None:
        self.promisc = options.setdefault("promiscuous", True)
        self.ip = None if ip is None else ip_address(ip)
        self._frames: deque[tuple[float, bytes]] = deque(maxlen=MAX_WAITING)
        self._neighbors: dict[Address, str] = {}
        self._asked: set[Address] = set()
        self.station = Station(path, **options)

    def fileno(self) -> int:
        return self.station.fileno()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if hasattr(self, "station"):
                self.station.close()

    def recv_raw(self, x: int = MTU) -> tuple[Any, Optional[bytes], Optional[float]]:
        if not self._frames:
            self._fill(None)
        try:
            when, frame = self._frames.popleft()
        except IndexError:
            # Only answers for neighbor discovery came.
            return None, None, None
        return Ether, frame, when

    def send(self, x: Any) -> int:
        """Sends a packet, or the bytes of a frame. Returns how many bytes."""
        frame = x if isinstance(x, bytes) else bytes(self._complete(x.copy()))
        self.station.send(frame)
        if isinstance(x, Packet):
            x.sent_time = time.time()
        return len(frame)

    def sr(self, x: Any, *args: Any, **kargs: Any) -> Any:
        # Before scapy takes the addresses down by which it knows the answers.
        return super().sr([self._complete(packet) for packet in _each(x)], *args, **kargs)

    def sr1(self, x: Any, *args: Any, **kargs: Any) -> Any:
        """As scapy's sr1. The answer to a packet without an Ethernet header has none either."""
        answer = super().sr1([self._complete(packet) for packet in _each(x)], *args, **kargs)
        if answer is None or isinstance(x, Ether):
            return answer
        return answer.payload

    @staticmethod
    def select(sockets: Iterable[Any], remain: Optional[float] = conf.recv_poll_rate) -> list[Any]:
        """Returns those of the sockets that have something to read, after remain seconds at most."""
        sockets = list(sockets)
        ours = [one for one in sockets if isinstance(one, BusSocket)]
        asleep: list[BusSocket] = []
        try:
            for one in ours:
                if one._frames or one.station.arm():
                    remain = 0
                else:
                    asleep.append(one)
                    limit = one.station.sleep_limit
                    remain = limit if remain is None else min(limit, remain)
            others = [one for one in sockets if not isinstance(one, BusSocket)]
            readable, _, _ = select.select([*asleep, *others], [], [], remain)
        finally:
            for one in asleep:
                one.station.disarm()
        for one in ours:
            if not one._frames:
                one._fill(0)
        return [one for one in sockets if (one._frames if one in ours else one in readable)]

    def _fill(self, timeout: Optional[float]) -> None:
        """Receives what there is, and answers those that ask for the address."""
        for when, frame in self.station.recv_stamped(256, timeout):
            if self.ip is not None:
                self._hear(frame)
            self._frames.append((when, frame))

    def _hear(self, frame: bytes) -> None:
        if frame[12:14] == ARP_TYPE and len(frame) >= 42 and isinstance(self.ip, IPv4Address):
            (operation,) = struct.unpack("!H", frame[20:22])
            sender, target = IPv4Address(frame[28:32]), IPv4Address(frame[38:42])
            if operation == 1 and target == self.ip:
                there = _shown(frame[22:28])
                reply = ARP(
                    op="is-at", hwsrc=self.station.mac, psrc=str(self.ip), hwdst=there, pdst=str(sender)
                )
                self.station.send(bytes(Ether(dst=there, src=self.station.mac) / reply))
            elif operation == 2:
                self._learn(sender, _shown(frame[22:28]))
        elif frame[12:14] == IPV6_TYPE and len(frame) >= 78 and frame[20] == 58:
            subject = IPv6Address(frame[62:78])
            if frame[54] == 135 and subject == self.ip:
                self._advertise(frame)
            elif frame[54] == 136:
                self._learn(subject, _shown(frame[6:12]))

    def _learn(self, address: Address, mac: str) -> None:
        # Only what was asked for: others can make up any number of neighbors.
        if address in self._asked:
            self._neighbors[address] = mac

    def _advertise(self, solicitation: bytes) -> None:
        asked = Ether(solicitation)[IPv6]
        is_claim = asked.src == "::"
        destination = "ff02::1" if is_claim else asked.src
        there = "33:33:00:00:00:01" if is_claim else _shown(solicitation[6:12])
        reply = IPv6(src=str(self.ip), dst=destination, hlim=255)
        reply /= ICMPv6ND_NA(tgt=str(self.ip), R=0, S=int(not is_claim), O=1)
        reply /= ICMPv6NDOptDstLLAddr(lladdr=self.station.mac)
        self.station.send(bytes(Ether(dst=there, src=self.station.mac) / reply))

    def _complete(self, packet: Any) -> Any:
        """Gives a packet the addresses that it leaves to the socket."""
        layer = packet.getlayer(IP) or packet.getlayer(IPv6)
        if self.ip is not None and layer is not None and "src" not in layer.fields:
            layer.src = str(self.ip)
        if not isinstance(packet, Ether):
            if layer is not packet:
                kind = type(packet).__name__
                raise ValueError(f"a packet that begins with {kind} needs an Ethernet header: Ether() / ...")
            packet = Ether() / packet
        if "src" not in packet.fields:
            packet.src = self.station.mac
        if "dst" not in packet.fields:
            packet.dst = BROADCAST if layer is None else self._neighbor(ip_address(layer.dst))
        return packet

    def _neighbor(self, address: Address) -> str:
        """Returns the Ethernet address of a neighbor, which is asked for it."""
        if address.is_multicast:
            if isinstance(address, IPv6Address):
                return _shown(b"\x33\x33" + address.packed[12:])
            return _shown(bytes([1, 0, 0x5E, address.packed[1] & 0x7F]) + address.packed[2:])
        if str(address) == "255.255.255.255":
            return BROADCAST
        if self.ip is None:
            raise ValueError(f"say who is asked for {address}: BusSocket(..., ip=...), or Ether(dst=...)")
        if self.ip.version != address.version:
            raise ValueError(f"{address} has no neighbor {self.ip}: they are of two families")
        self._asked.add(address)
        for _ in range(ASK_TIMES):
            if address in self._neighbors:
                break
            self.station.send(bytes(self._question(address)))
            end = time.monotonic() + ASK_SECONDS
            while address not in self._neighbors and (left := end - time.monotonic()) > 0:
                self._fill(left)
        try:
            return self._neighbors[address]
        except KeyError:
            raise TimeoutError(f"no host on the bus has {address}") from None

    def _question(self, address: Address) -> Any:
        mac, ip = self.station.mac, str(self.ip)
        if isinstance(address, IPv4Address):
            return Ether(dst=BROADCAST, src=mac) / ARP(hwsrc=mac, psrc=ip, pdst=str(address))
        low = address.packed[13:]
        group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + low)
        question = IPv6(src=ip, dst=str(group), hlim=255) / ICMPv6ND_NS(tgt=str(address))
        question /= ICMPv6NDOptSrcLLAddr(lladdr=mac)
        return Ether(dst=_shown(b"\x33\x33\xff" + low), src=mac) / question


def _shown(mac: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in mac)


def _each(packets: Any) -> Iterable[Any]:
    """Yields copies of the packets that a packet, or a list of them, stands for."""
    for packet in packets if isinstance(packets, list) else [packets]:
        yield from packet
