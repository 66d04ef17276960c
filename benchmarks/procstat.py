"""What the kernel's ``/proc`` tells about a process and its network namespace: the benchmark's meters.

All of it is read from outside, so a Go node and ours are measured by the same yardstick and neither helps with it.
``/proc/<pid>/net`` shows the namespace that the process lives in, so no program needs to be started there.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Udp6Counters", "cpu_seconds", "peak_rss_mib", "udp6_counters", "wait_listening"]

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_STATE_LISTEN = "0A"
_POLL = 0.01


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far: user and system time of all its threads.

    Source: fields ``utime`` and ``stime`` of ``/proc/<pid>/stat`` (steps of a clock tick, mostly 10 ms). The kernel's
    work for the process, such as its socket and TUN system calls, is in there; that of kernel threads is not.
    """
    # The program's name stands in parentheses and may itself hold spaces and parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def peak_rss_mib(pid: int) -> float:
    """Return the greatest resident set of a process since its start, in MiB (``VmHWM`` of ``/proc/<pid>/status``)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"process {pid} has no VmHWM: it has ended")


@dataclass(frozen=True)
class Udp6Counters:
    """What came of the UDP datagrams over IPv6 that reached a socket in a namespace."""

    received: int
    """Given to the receiving program."""
    overflowed: int
    """Dropped since the socket's buffer was full: they arrived, but the receiving program was too slow."""

    def __sub__(self, other: Udp6Counters) -> Udp6Counters:
        return Udp6Counters(self.received - other.received, self.overflowed - other.overflowed)


def udp6_counters(pid: int) -> Udp6Counters:
    """Return the counters of the process's namespace so far, in datagrams.

    Source: ``Udp6InDatagrams`` and ``Udp6RcvbufErrors`` of ``/proc/<pid>/net/snmp6``. They count single datagrams, also
    where the kernel carries several as one packet on the way.
    """
    lines = Path(f"/proc/{pid}/net/snmp6").read_text(encoding="ascii").splitlines()
    values = {name: int(value) for name, value in map(str.split, lines)}
    return Udp6Counters(values["Udp6InDatagrams"], values["Udp6RcvbufErrors"])


def wait_listening(pid: int, port: int, timeout: float = 5.0) -> None:
    """Wait until somebody listens on a TCP port over IPv6 in the process's namespace. Raises :class:`TimeoutError`."""
    limit = time.monotonic() + timeout
    while True:
        for line in Path(f"/proc/{pid}/net/tcp6").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _STATE_LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                return
        if time.monotonic() > limit:
            raise TimeoutError(f"nobody listens on port {port} after {timeout} s")
        time.sleep(_POLL)
