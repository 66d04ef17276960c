"""The TUN descriptor of the pure data plane: packets in batches, and waiting when the mesh takes no more.

When a link's socket is full the TUN is not read for a while: the kernel then holds packets back, and TCP slows down
without loss. ``TUN_PAUSE_LIMIT`` bounds how long one bad link may hold up the traffic of all the others.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

from yggpy.clock import Scheduler, TimerHandle

__all__ = ["TUN_BATCH", "TUN_PAUSE_LIMIT", "TunPort"]

TUN_BATCH = 32
"""Packets read before the event loop gets its turn again."""
TUN_PAUSE_LIMIT = 0.05
"""Longest time in seconds for which a congested link may hold up the reading."""
MAX_TUN_PACKET = 65535

# What a TUN device answers to a packet that it does not like, or (EIO) while the interface is set down, as opposed to
# a device that is gone.
_PACKET_ERRORS = frozenset((errno.EINVAL, errno.EIO, errno.ENOBUFS, errno.ENOMEM))


class TunPort:
    """Reads a non-blocking TUN descriptor, which stays its owner's to close, on the running event loop.

    ``on_packet`` gets each packet and returns False to pause the reading; ``on_batch_end`` is called after each batch;
    ``on_error`` once, when the device fails.
    """

    def __init__(
        self,
        fd: int,
        scheduler: Scheduler,
        on_packet: Callable[[bytes], bool],
        on_batch_end: Callable[[], None],
        on_error: Callable[[OSError], None],
    ) -> None:
        self._fd = fd
        self._scheduler = scheduler
        self._on_packet = on_packet
        self._on_batch_end = on_batch_end
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._pause: TimerHandle | None = None
        self._closed = False
        self._loop.add_reader(fd, self._readable)

    def write(self, packet: bytes) -> None:
        """Give a packet to the kernel; it is lost when the kernel's ring is full, as on any interface."""
        if self._closed:
            return
        try:
            os.write(self._fd, packet)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            if error.errno not in _PACKET_ERRORS:
                self._fail(error)

    def resume(self) -> None:
        """End a pause."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            if not self._closed:
                self._loop.add_reader(self._fd, self._readable)

    def close(self) -> None:
        """Stop reading and writing; harmless when already closed."""
        if not self._closed:
            self._closed = True
            if self._pause is not None:
                self._pause.cancel()
                self._pause = None
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        go_on = True
        for _ in range(TUN_BATCH):
            if self._closed:
                break
            try:
                packet = os.read(self._fd, MAX_TUN_PACKET)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._fail(error)
                break
            go_on = self._on_packet(packet)
            if not go_on:
                break
        self._on_batch_end()
        if not go_on and not self._closed:
            self._loop.remove_reader(self._fd)
            self._pause = self._scheduler.call_later(TUN_PAUSE_LIMIT, self.resume)

    def _fail(self, error: OSError) -> None:
        self.close()
        self._on_error(error)
