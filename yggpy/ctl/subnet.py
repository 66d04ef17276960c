"""``yggpy-ctl subnet``: the node's own /64 of 300::/8, and how to give it to what runs on this machine.

``subnet docker`` prints the commands that make it a Docker network, so that every container in that network has a mesh
address by itself and none needs a node: the node on the machine routes for all of them (protocol section 1). Nothing is
changed; the output is for ``sh``. It works with a Go node, too, since ``getSelf`` tells its subnet.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from yggpy.ctl.answers import Entry
from yggpy.ctl.errors import AnswerError, CtlError

if TYPE_CHECKING:
    from yggpy.ctl.commands import Invocation

__all__ = ["DEFAULT_NETWORK", "docker_commands", "subnet"]

DEFAULT_NETWORK = "yggdrasil"
MAX_BRIDGE_NAME = 15
"""Bytes in the name of an interface."""
_DOCKER = "docker"
_ALL_SUBNETS = ipaddress.IPv6Network("300::/8")
_PREFIX_LENGTH = 64
_NETWORK_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_BRIDGE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def subnet(invocation: Invocation) -> int:
    """Print the node's subnet, or what makes it a network of ``invocation.words``; may raise ``CtlError``."""
    if invocation.words not in ((), (_DOCKER,)):
        raise CtlError(f'subnet of what? "{" ".join(invocation.words)}" is not known; there is: subnet {_DOCKER}')
    own = _checked(Entry(invocation.ask("getSelf").value()).text("subnet"))
    if not invocation.words:
        if invocation.json:
            invocation.show_json({"subnet": str(own), "gateway": _gateway(own)})
        else:
            invocation.show(str(own))
        return 0
    name = invocation.arguments.get("network", DEFAULT_NETWORK)
    if _NETWORK_NAME.fullmatch(name) is None:
        raise CtlError(f'network="{name}": Docker takes letters, digits, and "_.-" behind the first')
    bridge = invocation.arguments.get("bridge", "")
    if bridge and (_BRIDGE_NAME.fullmatch(bridge) is None or len(bridge) > MAX_BRIDGE_NAME):
        raise CtlError(f'bridge="{bridge}": an interface has {MAX_BRIDGE_NAME} letters, digits and "_.-" at most')
    commands = docker_commands(own, name, bridge)
    if invocation.json:
        invocation.show_json({"subnet": str(own), "gateway": _gateway(own), "network": name, "commands": [*commands]})
        return 0
    invocation.show(
        "\n".join(
            (
                f"# The Docker network {name} takes {own}, the subnet of this machine's node:",
                "# each container in it has a mesh address, and none needs a node. As root: pipe this into sh.",
                *commands,
                f"# docker run --network {name} IMAGE; to open a port to the mesh (Docker 27 and later): --publish 80",
            )
        )
    )
    return 0


def docker_commands(own: ipaddress.IPv6Network, name: str, bridge: str = "") -> tuple[str, ...]:
    """Return the shell commands that make the Docker network ``name`` of a node's subnet.

    ``bridge``: name for the interface on the machine; empty: Docker chooses.
    """
    # Docker 27 and later would hide IPv6 containers behind the machine's address, unless the mode is "routed"; older
    # ones do not know the option and pass over it.
    options = ["--opt com.docker.network.bridge.gateway_mode_ipv6=routed"]
    if bridge:
        options.append(f"--opt com.docker.network.bridge.name={bridge}")
    return (
        "sysctl -qw net.ipv6.conf.all.forwarding=1",
        f"docker network create --ipv6 --subnet {own} --gateway {_gateway(own)} {' '.join(options)} {name}",
    )


def _gateway(own: ipaddress.IPv6Network) -> str:
    """Return the address of the machine in its subnet."""
    return str(own.network_address + 1)


def _checked(text: str) -> ipaddress.IPv6Network:
    """Return the subnet that a node names, which goes into a shell: nothing but a /64 of 300::/8 passes."""
    try:
        found = ipaddress.IPv6Network(text)
    except ValueError:
        found = None
    if found is None or found.prefixlen != _PREFIX_LENGTH or not found.subnet_of(_ALL_SUBNETS):
        raise AnswerError(f'the node says that its subnet is "{text}", which is no /{_PREFIX_LENGTH} of {_ALL_SUBNETS}')
    return found
