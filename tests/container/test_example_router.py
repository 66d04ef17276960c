"""``examples/router``: leaves go on when a router dies, no later than Go leaves at the same two routers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import permutations
from statistics import median

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.container.lab import Container, ContainerLab, wait_for
from tests.container.readme import Readme
from tests.interop.measure import PingStream, longest_silence, require_all_pairs

PEERS = ["tls://router1:9001?maxbackoff=5s", "tls://router2:9001?maxbackoff=5s"]
PING = "docker exec router-leaf1 ping -c 3 -w 30 $(docker exec router-leaf2 yggpy-node -autoconf -address)"
LOW_KEY_BITS = 12
"""Zeros that router1's key begins with: it is the root then."""
SETTLING = 1.0
OBSERVATION = {"killed": 7.0, "hangs": 12.0}
"""Seconds. Where a router hangs, three go by before a leaf notices, and three more until the other router does."""
TOLERANCE = 0.5
"""Seconds by which the silence may exceed that of the Go leaves: those act on timers of a second, and may be lucky."""


def _low_key() -> bytes:
    """Return a private key as PEM whose public key is lower than others'."""
    while True:
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        if int.from_bytes(public[:4], "big") >> (32 - LOW_KEY_BITS) == 0:
            return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _give_key(docker: ContainerLab, volume: str, pem: bytes) -> None:
    """Put a key where the router keeps its own, as somebody does who brings one along."""
    command = f"umask 077; cat >/state/key.pem <<'END'\n{pem.decode()}END"
    run = ["run", "--rm", "--network", "none", "--volume", f"{docker.volume(volume)}:/state", "--entrypoint", "sh"]
    docker.engine.docker(*run, docker.images.node, "-c", command)


def _put_below(leaves: Sequence[Container], router1: Container, router2: Container) -> None:
    """Make all these children of router1, the root, with a link to router2 that they do not use.

    A node keeps the parent that it has. Where some were router2's children, they would miss less than others.
    """
    key = router1.admin("getself")["key"]

    def wait_children() -> None:
        for leaf in leaves:

            def child(leaf: Container = leaf) -> bool:
                own = leaf.admin("getself")["key"]
                return any(entry["key"] == own and entry["parent"] == key for entry in leaf.admin("gettree")["tree"])

            wait_for(f"{leaf} is a child of {router1}", child)

    router2.stop()
    wait_children()  # before it is back: who has not missed it yet would stay below it
    router2.start()
    router2.wait_ready()
    wait_for("all are at both routers", lambda: len(router2.peers_up()) == len(router1.peers_up()) == len(leaves) + 1)
    wait_children()


def test_router(docker: ContainerLab) -> None:
    readme = Readme(docker, "router")
    _two_routers(docker, readme)
    _one_router(docker, readme)
    _with_compose(readme)
    readme.require_all_run()


def _two_routers(docker: ContainerLab, readme: Readme) -> None:
    _give_key(docker, "router1", _low_key())
    assert "up: router1 router2 leaf1 leaf2 leaf3" in readme.run("./run.sh up")
    router1, router2, *leaves = (docker.adopt(name) for name in ("router1", "router2", "leaf1", "leaf2", "leaf3"))
    for leaf in leaves:
        leaf.wait_peers(2)
        assert {peer["remote"] for peer in leaf.peers_up()} == {"tls://router1:9001", "tls://router2:9001"}
    assert router1.inspect()["HostConfig"]["CapAdd"] is None
    assert readme.run("docker exec router-leaf1 yggpy-ctl getPeers").count("Up") >= 2

    silences = {"ours": _silences(docker, readme, leaves, router1, router2)}
    assert "healthy" in readme.run("docker exec router-leaf1 yggpy-ctl health")
    for leaf in leaves:
        leaf.stop()
    go_config = {"Peers": PEERS, "MulticastInterfaces": []}
    go_leaves = [docker.go(f"go{number}", f"{docker.prefix}net", config=go_config) for number in (1, 2, 3)]
    silences["go"] = _silences(docker, None, go_leaves, router1, router2)
    for leaf in go_leaves:
        leaf.remove()
    readme.run("./run.sh down")
    docker.engine.docker("volume", "rm", f"{docker.prefix}router1")  # which was there before
    readme.require_nothing_left()

    print(f"seconds of silence when the router is killed, and when it hangs: {silences}")
    for death, seconds in OBSERVATION.items():
        ours, go = silences["ours"][death], silences["go"][death]
        assert max(ours) < seconds, f"router {death}: not all went on: {silences}"
        assert median(ours) <= median(go) + TOLERANCE, f"router {death}: {silences}"


def _silences(
    docker: ContainerLab, readme: Readme | None, leaves: Sequence[Container], router1: Container, router2: Container
) -> dict[str, list[float]]:
    """Let router1 be killed, then hang; return how long each leaf heard nothing of each other one, by kind of death.

    ``readme``: says how to kill it and what to see then.
    """
    found: dict[str, list[float]] = {}
    for death, seconds in OBSERVATION.items():
        _put_below(leaves, router1, router2)
        require_all_pairs(leaves)
        time.sleep(SETTLING)
        streams = [PingStream(source, dest) for source, dest in permutations(leaves, 2)]
        time.sleep(1)
        begun_at = time.time()
        if death == "hangs":
            docker.engine.docker("pause", router1.name)
        elif readme is not None:
            readme.run("docker kill router-router1")
        else:
            docker.engine.docker("kill", router1.name)
        time.sleep(seconds)
        ended_at = time.time()
        found[death] = sorted(
            round(longest_silence(stream.stop()[1], begun_at - 0.5, ended_at), 1) for stream in streams
        )
        if death == "hangs":
            docker.engine.docker("unpause", router1.name)
        elif readme is not None:
            assert "3 received" in readme.run(PING)
            readme.run("docker start router-router1")
        else:
            router1.start()
        router1.wait_ready()
    return found


def _one_router(docker: ContainerLab, readme: Readme) -> None:
    assert "up: router1 leaf1 leaf2 leaf3" in readme.run("./run.sh up 1")
    require_all_pairs([docker.adopt(f"leaf{number}") for number in (1, 2, 3)])
    readme.run("./run.sh down")
    readme.require_nothing_left()


def _with_compose(readme: Readme) -> None:
    readme.run("docker compose up -d --scale leaf=3")
    require_all_pairs(readme.services("leaf"))
    readme.run("docker compose down -v")
    readme.require_nothing_left()
