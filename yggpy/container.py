"""What a container must be given before a node in it can have a TUN device, in the words of ``docker run``.

Only asked when something has failed already: a node that runs does not care where it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["CAPABILITY_FLAG", "DEVICE_FLAG", "IPV6_FLAG", "container_advice", "container_kind"]

DEVICE_FLAG = "--device=/dev/net/tun"
CAPABILITY_FLAG = "--cap-add=NET_ADMIN"
IPV6_FLAG = "--sysctl net.ipv6.conf.all.disable_ipv6=0"

_CAP_NET_ADMIN = 12
"""Bit of the capability sets in ``/proc/self/status``, as in linux/capability.h."""
_FIRST_NAMESPACES = {"pid": 0xEFFFFFFC, "uts": 0xEFFFFFFE, "ipc": 0xEFFFFFFF}
"""Numbers of the machine's own namespaces, as in linux/proc_ns.h (PROC_PID_INIT_INO and its neighbours)."""
_ROOT = Path("/")
_CGROUP_WORDS = {"kubepods": "kubernetes", "docker": "docker", "libpod": "podman", "containerd": "container"}
_KUBERNETES_WORDS = {
    DEVICE_FLAG: "the device /dev/net/tun of the host (a hostPath volume of type CharDevice)",
    CAPABILITY_FLAG: "NET_ADMIN in securityContext.capabilities.add",
    IPV6_FLAG: "IPv6 (the sysctl net.ipv6.conf.all.disable_ipv6=0)",
}


def container_kind(root: Path = _ROOT, environment: Mapping[str, str] = os.environ) -> str:
    """Return what runs this process in a container: ``docker``, ``podman``, ``kubernetes``, ``container`` for others.

    Empty: it does not look like one. A machine whose file system was once an image has an image's marks as well, so
    they only count in namespaces that are not the machine's own.
    """
    if _in_first_namespaces(root):
        return ""
    if environment.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    cgroups = _text(root / "proc/self/cgroup")
    named = next((kind for word, kind in _CGROUP_WORDS.items() if word in cgroups), "")
    return named or ("container" if environment.get("container") else "")


def container_advice(root: Path = _ROOT, environment: Mapping[str, str] = os.environ) -> str:
    """Return what to give to the container for a TUN device, as words that follow a reason.

    Empty: this is no container, or nothing is seen to be missing.
    """
    kind = container_kind(root, environment)
    if not kind:
        return ""
    flags = _missing_flags(root)
    if CAPABILITY_FLAG in flags and _capability("CapBnd", root):
        # The container may, but not as this user; the file system's own permissions may hide the device, too.
        return "start the container as root (leave --user out): the node gives root up by itself, as YGG_USER says"
    if not flags:
        return ""
    if kind == "kubernetes":
        return f"give the container {', '.join(_KUBERNETES_WORDS[flag] for flag in flags)}"
    program = "podman" if kind == "podman" else "docker"
    return f"add {' '.join(flags)} to {program} run"


def _in_first_namespaces(root: Path) -> bool:
    try:
        return all(
            os.readlink(root / "proc/self/ns" / name) == f"{name}:[{number}]"
            for name, number in _FIRST_NAMESPACES.items()
        )
    except OSError:
        return False


def _missing_flags(root: Path) -> list[str]:
    flags = []
    if not _capability("CapEff", root):
        flags.append(CAPABILITY_FLAG)
    if not _can_open(root / "dev/net/tun"):
        flags.append(DEVICE_FLAG)
    # A new interface takes the default; the sysctl for all sets that one, too.
    if _text(root / "proc/sys/net/ipv6/conf/default/disable_ipv6").strip() == "1":
        flags.append(IPV6_FLAG)
    return flags


def _can_open(path: Path) -> bool:
    """Whether the device is there and the container's rules for devices let it be opened."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _capability(which: str, root: Path) -> bool:
    """Whether CAP_NET_ADMIN is in one of this process's capability sets (``CapEff``, ``CapBnd``)."""
    for line in _text(root / "proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == which:
            return bool(int(value, 16) >> _CAP_NET_ADMIN & 1)
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
