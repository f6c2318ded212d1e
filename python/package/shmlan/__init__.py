"""Virtual Ethernet LANs in shared memory.

A LAN is a file, and every process that may open it is on the LAN:

    >>> import shmlan
    >>> with shmlan.Station("/dev/shm/lan") as station:
    ...     station.send(b"\\xff" * 6 + bytes.fromhex("020000000001 88b5") + b"hello")

- Station sends and receives, Tap sees every frame and changes nothing, Bus makes a file and looks
  at it.
- Memif is the shared-memory link to VPP, DPDK and libmemif programs, in both roles.
- shmlan.aio awaits frames in asyncio, shmlan.scapy is a socket for scapy, and pytest has the fixture
  lan.

Frames are bytes, with the destination address first and no check sequence. All that is received is
a copy.
"""

from ._errors import BusError, BusyError, LinkDownError, LostError, MemifError
from ._native import Bus, Member, Memif, Peer, Receiver, Station, Tap

__all__ = [
    "Bus",
    "BusError",
    "BusyError",
    "LinkDownError",
    "LostError",
    "Member",
    "Memif",
    "MemifError",
    "Peer",
    "Receiver",
    "Station",
    "Tap",
]
