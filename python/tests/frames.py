"""Frames that can be told apart."""

BROADCAST = b"\xff" * 6
SOURCE = bytes.fromhex("020000000001")


def frame(number: int, size: int = 64, to: bytes = BROADCAST, source: bytes = SOURCE) -> bytes:
    """Returns a frame of size bytes with a number and a filling that depends on it."""
    head = to + source + b"\x88\xb5" + number.to_bytes(8, "big")
    return (head + bytes((number + n) % 251 for n in range(size)))[:size]


def packed(mac: str) -> bytes:
    """Returns the six bytes of an address."""
    return bytes.fromhex(mac.replace(":", ""))
