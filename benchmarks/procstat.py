"""What the kernel's ``/proc`` tells about a process and its network namespace: the benchmark's meters.

All of it is read from outside, so a Go node and ours are measured by the same yardstick and neither helps with it.
``/proc/<pid>/net`` shows the namespace that the process lives in, so no program needs to be started there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["cpu_seconds", "peak_rss_mib", "udp6_received", "wait_listening"]

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


def udp6_received(pid: int) -> int:
    """Return how many UDP datagrams over IPv6 programs in the process's namespace were given so far.

    Source: ``Udp6InDatagrams`` of ``/proc/<pid>/net/snmp6``. It counts single datagrams, also where the kernel carries
    several as one packet on the way, and leaves out those that found the receiver's buffer full.
    """
    for line in Path(f"/proc/{pid}/net/snmp6").read_text(encoding="ascii").splitlines():
        name, value = line.split()
        if name == "Udp6InDatagrams":
            return int(value)
    raise OSError("this kernel has no Udp6InDatagrams in /proc/net/snmp6")


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
