"""What a container lacks for a TUN device, told from a pretended file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from yggpy.container import CAPABILITY_FLAG, DEVICE_FLAG, IPV6_FLAG, container_advice, container_kind

ALL_FLAGS = f"{CAPABILITY_FLAG} {DEVICE_FLAG} {IPV6_FLAG}"
NET_ADMIN = 1 << 12


def system(root: Path, *, effective: int = 0, bounding: int = 0, device: bool = False, ipv6: str = "1") -> Path:
    """Lay out what is looked at."""
    capabilities = f"CapPrm:\t{effective:016x}\nCapEff:\t{effective:016x}\nCapBnd:\t{bounding:016x}\n"
    files = {
        "proc/self/status": f"Name:\tx\n{capabilities}",
        "proc/sys/net/ipv6/conf/default/disable_ipv6": f"{ipv6}\n",
    }
    if device:
        files["dev/net/tun"] = ""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "variables", "kind"),
    [
        ({}, {}, ""),
        ({".dockerenv": ""}, {}, "docker"),
        ({"run/.containerenv": "", ".dockerenv": ""}, {"container": "podman"}, "podman"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"proc/self/cgroup": "1:name=systemd:/kubepods/pod1/abc\n"}, {}, "kubernetes"),
        ({"proc/self/cgroup": "1:cpu:/docker/abc\n"}, {}, "docker"),
        ({"proc/self/cgroup": "0::/user.slice\n"}, {"container": "lxc"}, "container"),
        ({"proc/self/cgroup": "0::/user.slice\n"}, {}, ""),
    ],
)
def test_where_we_are(tmp_path: Path, files: dict[str, str], variables: dict[str, str], kind: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert container_kind(tmp_path, variables) == kind


def test_a_machine_made_from_an_image_is_no_container(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    namespaces = tmp_path / "proc/self/ns"
    namespaces.mkdir(parents=True)
    for name, number in (("pid", 4026531836), ("uts", 4026531838), ("ipc", 4026531839)):
        (namespaces / name).symlink_to(f"{name}:[{number}]")
    assert container_kind(tmp_path, {}) == ""
    (namespaces / "pid").unlink()
    (namespaces / "pid").symlink_to("pid:[4026532000]")
    assert container_kind(tmp_path, {}) == "docker"


def test_outside_of_containers_there_is_no_advice(tmp_path: Path) -> None:
    assert container_advice(system(tmp_path), {}) == ""


def test_each_missing_flag_is_named(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    assert container_advice(system(tmp_path), {}) == f"add {ALL_FLAGS} to docker run"
    has_cap = system(tmp_path, effective=NET_ADMIN, bounding=NET_ADMIN)
    assert container_advice(has_cap, {}) == f"add {DEVICE_FLAG} {IPV6_FLAG} to docker run"
    has_two = system(tmp_path, effective=NET_ADMIN, bounding=NET_ADMIN, device=True)
    assert container_advice(has_two, {}) == f"add {IPV6_FLAG} to docker run"
    has_all = system(tmp_path, effective=NET_ADMIN, bounding=NET_ADMIN, device=True, ipv6="0")
    assert container_advice(has_all, {}) == ""


def test_in_the_words_of_what_runs_the_container(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.containerenv").touch()
    assert container_advice(system(tmp_path), {}) == f"add {ALL_FLAGS} to podman run"
    advice = container_advice(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert advice.startswith("give the container NET_ADMIN in securityContext.capabilities.add, the device /dev/net")


def test_a_user_who_does_not_get_what_the_container_has(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    advice = container_advice(system(tmp_path, bounding=NET_ADMIN, device=True, ipv6="0"), {})
    assert "leave --user out" in advice
