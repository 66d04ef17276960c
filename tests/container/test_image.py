"""The image: what is in it, what its container needs and says, whom it becomes, and what it keeps."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable

import pytest

from tests.container.lab import Container, ContainerLab, wait_for
from tests.interop.go_node import GoPrograms
from tests.interop.measure import wait_reachable
from tests.interop.nodes import new_key
from yggpy.container import CAPABILITY_FLAG, DEVICE_FLAG, IPV6_FLAG

USER = "10001"
QUICK_HEALTH = ("--health-interval=1s", "--health-timeout=20s")
"""The image asks every half minute, which is long for a test."""
STATE = "/var/lib/yggpy"
STOP_LIMIT = 8.0
"""Seconds for a stop; docker itself would kill after ten."""


@pytest.fixture(scope="module")
def running(shared: ContainerLab) -> Container:
    """A node started as the documentation says, without an argument."""
    node = shared.node("node", shared.network("net"), options=QUICK_HEALTH)
    node.wait_ready()
    return node


# ---- what is in it ----


def test_no_compiler_and_no_pip_inside(running: Container) -> None:
    tools = ("cc", "gcc", "ld", "make", "cmake", "ninja", "pip", "pip3")
    found = running.exec("sh", "-c", f"for tool in {' '.join(tools)}; do command -v $tool; done; true")
    assert found.split() == []
    for program in ("yggpy-node", "yggpy-ctl", "yggpy-genkeys"):
        assert running.exec("sh", "-c", f"command -v {program}").startswith("/opt/yggpy/bin/")


def test_the_engine_in_c_is_used(running: Container) -> None:
    assert "data plane" not in running.logs()  # the node says so if it has to do without
    running.exec("/opt/yggpy/bin/python3", "-c", "import yggpy.datapath._native")


def test_size_beside_the_go_image(
    shared: ContainerLab, go: GoPrograms, record_property: Callable[[str, object], None]
) -> None:
    images = shared.images
    base, ours, theirs = (images.size(name) / 1e6 for name in (images.base, images.node, images.go(go)))
    print(f"image sizes in MB: base {base:.0f}; with yggpy {ours:.0f}; with the Go node {theirs:.0f}")
    record_property("image_megabytes", {"base": base, "yggpy": ours, "go": theirs})
    assert base < ours < base + 60, "yggpy and its libraries have grown; docs/containers.md says how large they are"


# ---- as it runs ----


def test_unprivileged_after_the_start(running: Container) -> None:
    status = dict(re.findall(r"^(\w+):\s*(.*)$", running.exec("cat", "/proc/1/status"), re.M))
    assert status["Uid"].split() == [USER] * 4
    assert status["Gid"].split() == [USER] * 4
    assert status["Groups"].split() == [USER]
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapAmb"], 16) == 0
    assert running.inspect()["HostConfig"]["Privileged"] is False
    assert running.inspect()["HostConfig"]["CapAdd"] in (["NET_ADMIN"], ["CAP_NET_ADMIN"])


def test_ctl_inside(running: Container) -> None:
    assert running.ctl("getSelf")["address"] == running.address
    assert "URI" in running.exec("yggpy-ctl", "getPeers")
    # Root and the node's own user may ask; others may not.
    assert running.exec("yggpy-ctl", "getSelf", user=USER)


def test_the_health_check_gets_healthy(running: Container) -> None:
    wait_for("the container is healthy", lambda: running.health == "healthy")
    check = running.inspect()["Config"]["Healthcheck"]
    assert check["Test"] == ["CMD", "yggpy-ctl", "health"]


def test_orphans_do_not_stay_as_zombies(running: Container) -> None:
    running.exec("sh", "-c", "for i in 1 2 3; do (exec sleep 0.3 &); done")
    # A process whose end nobody has asked for stays in /proc, as a zombie.
    wait_for("they are gone", lambda: "sleep" not in running.exec("sh", "-c", "cat /proc/[0-9]*/comm; true"), 20)
    assert running.running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean_and_quick(docker: ContainerLab, number: signal.Signals) -> None:
    node = docker.node("node", "none")
    node.wait_ready()
    started = time.monotonic()
    node.kill(number)
    assert node.wait_end() == 0
    assert time.monotonic() - started < STOP_LIMIT
    assert "Stopped" in node.logs()


def test_a_stop_during_the_start_is_obeyed(docker: ContainerLab) -> None:
    # What the program does first, and then a start that takes long. The kernel keeps SIGTERM from a first process that
    # has said nothing of it.
    start = "from yggpy.cli.pid1 import *; assert is_first_process(); end_at_sigterm(); print('begun', flush=True)"
    options = ("--entrypoint", "/opt/yggpy/bin/python3")
    command = ("-c", f"{start}; import time; time.sleep(300)")
    node = docker.plain("node", "none", docker.images.node, *command, options=options)
    node.wait_log("begun")
    node.kill(signal.SIGTERM)
    assert node.wait_end() == 128 + signal.SIGTERM


def test_a_restart_goes_on_with_the_same_key(docker: ContainerLab) -> None:
    node = docker.node("node", "none")
    address = node.address
    node.kill()
    node.wait_end()
    node.start()  # its admin socket's file is still there
    node.wait_ready()
    assert node.address == address


# ---- what the container must be given ----


@pytest.mark.parametrize(
    "missing",
    [[CAPABILITY_FLAG], [DEVICE_FLAG], [IPV6_FLAG], [CAPABILITY_FLAG, DEVICE_FLAG, IPV6_FLAG]],
    ids=["cap-add", "device", "sysctl", "all"],
)
def test_what_is_missing_is_named(docker: ContainerLab, missing: list[str]) -> None:
    flags = [flag for flag in (CAPABILITY_FLAG, DEVICE_FLAG, IPV6_FLAG) if flag not in missing]
    node = docker.node("node", docker.network("net"), flags=" ".join(flags).split())
    assert node.wait_end() == 1
    last_words = [line for line in node.logs().splitlines() if line.startswith("yggpy-node: ")]
    assert len(last_words) == 1
    assert f"; add {' '.join(missing)} to docker run, or set IfName to none" in last_words[0]


def test_without_a_tun_nothing_is_needed(docker: ContainerLab) -> None:
    node = docker.node("router", "none", flags=(), env={"YGG_IF_NAME": "none", "YGG_LISTEN": "tls://[::]:9001"})
    node.wait_ready()
    assert "TLS listener started" in node.logs()


def test_as_another_user_it_is_told_that_root_is_wanted(docker: ContainerLab) -> None:
    env = {"YGG_ADMIN_LISTEN": "none"}
    node = docker.node("node", docker.network("net"), env=env, options=("--user", USER))
    assert node.wait_end() == 1
    assert "leave --user out" in node.logs()


# ---- how it is told what to do ----


def test_flags_are_the_arguments_of_docker_run(docker: ContainerLab) -> None:
    run = ("run", "--rm", "--network", "none", docker.images.node)
    assert docker.engine.docker(*run, "-version").startswith("Build name: yggpy\n")
    assert "PrivateKey:" in docker.engine.docker(*run, "-genconf")


def test_a_configuration_file(docker: ContainerLab) -> None:
    private, public = new_key()
    node = docker.node("node", "none", "-loglevel", "debug", config={"PrivateKey": private, "IfName": "mesh7"})
    node.wait_ready()
    assert node.admin("getself")["key"] == public.hex()
    assert "Interface name: mesh7" in node.logs()


def test_a_volume_keeps_the_key(docker: ContainerLab) -> None:
    volume = docker.volume("state")
    addresses = []
    for name in ("first", "second"):
        node = docker.node(name, "none", options=("--volume", f"{volume}:{STATE}"))
        addresses.append(node.address)
        assert node.exec("stat", "-c", "%u %a", f"{STATE}/key.pem").split() == [USER, "600"]
        node.remove()
    assert addresses[0] == addresses[1]
    without = docker.node("without", "none")
    assert without.address not in addresses


def test_a_folder_of_the_host_keeps_the_key(docker: ContainerLab) -> None:
    folder = docker.folder / "state"
    folder.mkdir(mode=0o755)  # root's, as docker makes it
    node = docker.node("node", "none", options=("--volume", f"{folder}:{STATE}"))
    node.wait_ready()
    assert (folder / "key.pem").stat().st_uid == int(USER)


def test_a_secret_file_has_the_key(docker: ContainerLab) -> None:
    private, public = new_key()
    secret = docker.folder / "key"
    secret.write_text(private)
    secret.chmod(0o600)
    options = ("--volume", f"{secret}:/run/secrets/key:ro")
    node = docker.node("node", "none", env={"YGG_PRIVATE_KEY_FILE": "/run/secrets/key"}, options=options)
    node.wait_ready()
    assert node.admin("getself")["key"] == public.hex()
    assert private[:64] not in str(node.inspect())


def test_ctl_finds_an_admin_socket_elsewhere(docker: ContainerLab) -> None:
    node = docker.node("node", "none", env={"YGG_ADMIN_LISTEN": "unix:///tmp/admin.sock"}, options=QUICK_HEALTH)
    node.wait_log("admin socket listening on /tmp/admin.sock")
    assert node.ctl("getSelf")["build_name"] == "yggpy"
    wait_for("the container is healthy", lambda: node.health == "healthy")


def test_a_read_only_container(docker: ContainerLab) -> None:
    options = ("--read-only", "--tmpfs", "/run", "--tmpfs", f"{STATE}:uid={USER},mode=0700")
    node = docker.node("node", "none", options=options)
    node.wait_ready()
    node.stop()
    assert node.exit_code == 0


def test_the_fewest_capabilities(docker: ContainerLab) -> None:
    # As contrib/kubernetes gives them.
    added = [f"--cap-add={name}" for name in ("CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID")]
    state = ("--volume", f"{docker.volume('state')}:{STATE}")
    options = ("--cap-drop=ALL", *added, "--security-opt=no-new-privileges", *state)
    node = docker.node("node", docker.network("net"), options=options)
    node.wait_ready()
    assert "Running as user 10001" in node.logs()
    assert node.ctl("getSelf")["address"] == node.address


# ---- the mesh ----


def test_neighbours_find_each_other_with_no_configuration(docker: ContainerLab) -> None:
    network = docker.network("net")
    one, other, go = docker.node("one", network), docker.node("other", network, "-autoconf"), docker.go("go", network)
    for source, dest in ((one, other), (other, one), (go, one), (one, go)):
        wait_reachable(source, dest)
    assert "1 received" in one.exec("ping", "-6", "-c", "1", "-w", "20", other.address)
