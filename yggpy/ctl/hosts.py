"""``yggpy-ctl hosts``: the names that a node knows (``getHosts``), for ``/etc/hosts`` or for ``docker run``.

They are the same as those that its DNS responder answers, except for the names made of keys, which are endless.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from yggpy.admin.jsontext import EncodableJson
from yggpy.ctl.answers import Entry
from yggpy.ctl.errors import CtlError
from yggpy.names.labels import parse_name

if TYPE_CHECKING:
    from yggpy.ctl.commands import Invocation

__all__ = ["hosts"]

_FORMATS = ("hosts", "add-host")
_NAMES = ("full", "short", "both")


def hosts(invocation: Invocation) -> int:
    """Print one line for each name and address. Raises ``CtlError``."""
    form, which = _choice(invocation, "format", _FORMATS), _choice(invocation, "names", _NAMES)
    status = Entry(invocation.ask("getHosts").value())
    if not status.flag("enabled"):
        raise CtlError("the node knows no names: its configuration has no DNS section")
    lines = []
    found: list[EncodableJson] = []
    for host in status.entries("hosts"):
        address, name = host.text("address"), host.text("name")
        _check(address, name)
        short = name.removesuffix(f".{status.text('domain')}")
        names = {"full": [name], "short": [short], "both": [name, short]}[which]
        found.append({"address": address, "names": names})
        if form == "hosts":
            lines.append(f"{address} {' '.join(names)}\n")
        else:
            lines += [f"--add-host {each}:{address}\n" for each in names]
    if invocation.json:
        invocation.show_json(found)
        return 0

    from yggpy.ctl.commands import write

    write("".join(lines))
    return 0


def _choice(invocation: Invocation, name: str, choices: tuple[str, ...]) -> str:
    text = invocation.arguments.get(name, choices[0])
    if text not in choices:
        raise CtlError(f'{name}="{text}" must be {" or ".join(choices)}')
    return text


def _check(address: str, name: str) -> None:
    """What is printed goes into files and command lines: nothing but names and addresses may be in it."""
    try:
        IPv6Address(address)
    except ValueError:
        raise CtlError("the node's answer holds an address that is none") from None
    if parse_name(name) is None:
        raise CtlError("the node's answer holds a name that is none")
