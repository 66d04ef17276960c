"""Names that Go nodes announce in their NodeInfo, as our responder answers them to programs on real sockets."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.measure import wait_reachable
from tests.interop.nodes import MeshNode, YggNode, new_key
from yggpy.address import Address, Subnet

PROBE = Path(__file__).with_name("dns_probe.py")
UPSTREAM_PORT = 5353
LIMIT = 60.0


def ask(node: MeshNode, server: str, kind: str, *questions: str) -> list[Any]:
    """Ask ``server`` from the node's machine; see ``dns_probe.py``."""
    command = (sys.executable, PROBE, "ask", server, 53, kind, *questions)
    answers: list[Any] = json.loads(node.space.run(map(str, command)))
    return answers


def records(answer: Any) -> list[str]:
    assert answer is not None and answer[0] == "NOERROR", answer
    found: list[str] = answer[2]
    return found


def reverse(address: object) -> str:
    return f"{ip_address(str(address)).reverse_pointer}/PTR"


def until(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.2)


def address_of(node: MeshNode) -> str:
    return str(Address.for_key(node.public_key))


@pytest.mark.slow
def test_names_of_go_nodes(lab: Lab, tmp_path: Path) -> None:
    if lab.rehearsing:
        pytest.skip("the Go node answers no names")
    web = lab.node("0.5.14", name="web", NodeInfo={"name": "Web"})
    mail = lab.node("0.5.12", name="mail", NodeInfo={"name": "mail", "contact": "me@example.org"})
    thief = lab.node("0.5.14", name="thief", NodeInfo={"name": "web"})
    liar = lab.node("0.5.14", name="liar", NodeInfo={"name": "web"})  # trusted, and pinned to nothing
    ours = lab.node(OURS, name="names", NodeInfo={"name": "home"})
    assert isinstance(ours, YggNode)
    ours.flags = ("-user", "nobody")  # who could not listen on port 53
    mesh = address_of(ours)
    stranger = new_key()[1]
    ours.config["DNS"] = {
        "Listen": ["127.0.0.1", "[::1]:53", f"[{mesh}]:53"],
        "Domain": "mesh",
        "Hosts": {"db": [stranger.hex(), "300:1::5"], "www.shop": "300:1::6"},
        "TrustedKeys": [web.public_key.hex()],
        "Pins": {"mail": mail.public_key.hex()},
        "Clients": [f"{address_of(web)}/128"],
        "Forward": [f"127.0.0.1:{UPSTREAM_PORT}"],
    }
    ours.config["DNS"]["TrustedKeys"].append(liar.public_key.hex())
    uri = ours.listen("tls")
    for node in (web, mail, thief):
        node.dial(uri)
    lab.start([ours, web, mail, thief])
    for node in (web, mail, thief):
        wait_reachable(node, ours, timeout=30)

    def silent() -> list[str]:
        found: list[str] = ours.admin("gethosts")["silent"]
        return found

    until(lambda: silent() == [liar.public_key.hex()], "the nodes do not tell their names")
    # The older owner keeps the name against another trusted node, which comes later.
    liar.dial(uri)
    lab.start([liar])
    # Asking for a name that nobody has is a reason to ask it sooner.
    until(lambda: bool(ask(ours, "::1", "udp", "nobody.mesh")) and not silent(), "the last node does not tell its name")
    (rejected,) = ours.admin("gethosts")["rejected"]
    assert rejected["key"] == liar.public_key.hex() and web.public_key.hex() in rejected["reason"]

    pk = f"{thief.public_key.hex()[:32]}.{thief.public_key.hex()[32:]}.pk.mesh"
    subnet = str(Subnet.for_key(mail.public_key)).removesuffix("/64") + "77"
    questions = ("WEB.mesh", "mail.mesh", "home.mesh", "db.mesh", pk, "web.mesh/A", "none.mesh")
    more = (
        reverse(address_of(web)),
        *(reverse(subnet), reverse("300:1::6"), reverse(address_of(thief)), reverse("200::99"), "mesh/SOA"),
    )
    for server, kind in (("127.0.0.1", "udp"), ("::1", "tcp"), (mesh, "udp"), ("127.0.0.1", "tcp")):
        answers = ask(ours, server, kind, *questions, *more)
        assert [records(answer) for answer in answers[:6]] == [
            [address_of(web)],
            [address_of(mail)],
            [mesh],
            sorted([str(Address.for_key(stranger)), "300:1::5"]),
            [address_of(thief)],
            [],
        ]
        assert answers[6][0] == answers[11][0] == "NXDOMAIN"
        assert records(answers[7]) == ["web.mesh."]
        assert records(answers[8]) == ["mail.mesh."]
        assert records(answers[9]) == ["www.shop.mesh."]
        assert records(answers[10]) == [f"{pk}."]
        assert len(records(answers[12])) == 1
        assert all("AA" in answer[1].split() for answer in answers)

    # Over the mesh: whom Clients names is answered, others are not, not even by a refusal.
    for kind in ("udp", "tcp"):
        assert records(ask(web, mesh, kind, "mail.mesh")[0]) == [address_of(mail)]
        assert ask(thief, mesh, kind, "mail.mesh") == [None]

    # What is not ours goes to another resolver; while there is none, the client hears so.
    assert ask(ours, "::1", "udp", "debian.org")[0][0] == "SERVFAIL"
    command = (sys.executable, PROBE, "serve", UPSTREAM_PORT, "2001:db8::7")
    upstream = ours.space.popen(map(str, command))
    assert upstream.stdout is not None and upstream.stdout.readline() == b"ready\n"
    for kind in ("udp", "tcp"):
        (answer,) = ask(ours, "::1", kind, "debian.org")
        assert records(answer) == ["2001:db8::7"] and "AA" not in answer[1].split()

    # What programs use.
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n")
    with_resolver = f"mount --bind {resolv} /etc/resolv.conf && getent "
    shown = ours.space.run(["sh", "-c", f"{with_resolver} ahostsv6 web.mesh"])
    assert shown.split()[0] == address_of(web)
    shown = ours.space.run(["sh", "-c", f"{with_resolver} hosts {address_of(mail)}"])
    assert shown.split() == [address_of(mail), "mail.mesh"]

    # The same as lines, in the order of the table.
    ctl = [sys.executable, "-m", "yggpy.ctl", f"-endpoint=unix://{ours.admin_path}", "hosts"]
    lines = ours.space.run(ctl).splitlines()
    expected = {
        f"{address_of(web)} web.mesh",
        f"{address_of(mail)} mail.mesh",
        f"{mesh} home.mesh",
        f"{Address.for_key(stranger)} db.mesh",
        "300:1::5 db.mesh",
        "300:1::6 www.shop.mesh",
    }
    assert set(lines) == expected and len(lines) == len(expected)
    assert f"--add-host web.mesh:{address_of(web)}" in ours.space.run([*ctl, "format=add-host"]).splitlines()

    # A name outlives its owner's absence: the other one does not get it then either.
    web.kill()
    until(lambda: len(ours.peers_up()) == 3, "the dead peer stays")
    assert records(ask(ours, "::1", "udp", "web.mesh")[0]) == [address_of(web)]
