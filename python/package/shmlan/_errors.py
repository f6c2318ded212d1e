"""The exceptions.

All are kinds of OSError. An error of the system is an OSError with its number, so that a bus that is
missing raises FileNotFoundError. Values that cannot be used, and objects that are closed, raise
ValueError; what does not come in time raises TimeoutError.
"""


class BusError(OSError):
    """A bus cannot be opened or used."""

    __module__ = "shmlan"


class BusyError(BusError):
    """The lock of a bus was not free in time. Its holder may be a process that is stopped."""

    __module__ = "shmlan"

    sent: int
    """How many frames of the burst are on the bus."""

    def __init__(self, message: str, sent: int = 0) -> None:
        super().__init__(message)
        self.sent = sent


class LostError(BusError):
    """A bus is gone: its file was cut short or overwritten."""

    __module__ = "shmlan"


class MemifError(OSError):
    """A memif interface cannot be opened or used."""

    __module__ = "shmlan"


class LinkDownError(MemifError, ConnectionError):
    """A memif interface has no peer."""

    __module__ = "shmlan"
