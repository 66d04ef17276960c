"""The manifests in contrib/kubernetes are what Kubernetes takes, and what the node needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "contrib" / "kubernetes"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))
VERSIONS = ("1.29", "1.34")
"""The oldest that the side-car is for, and a new one."""
CAPABILITIES = {"NET_ADMIN", "CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"}
"""As tests/container/test_image.py proves to be enough."""


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def pod_of(path: Path) -> dict[str, Any]:
    """Return the pod's specification in a manifest."""
    (pod,) = [found["spec"]["template"]["spec"] for found in documents(path) if "template" in found.get("spec", {})]
    assert isinstance(pod, dict)
    return pod


def node_of(path: Path) -> dict[str, Any]:
    pod = pod_of(path)
    (node,) = [c for c in [*pod.get("initContainers", []), *pod["containers"]] if c["name"] == "yggpy"]
    assert isinstance(node, dict)
    return node


def test_both_are_there() -> None:
    assert [path.name for path in MANIFESTS] == ["daemonset.yaml", "sidecar.yaml"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_schema_takes_it(path: Path, version: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_check_finds_mistakes() -> None:
    document = documents(MANIFESTS[0])[-1]
    document["spec"]["template"]["spec"]["hostNetwrok"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostNetwrok"):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_node_gets_what_it_needs_and_no_more(path: Path) -> None:
    node, pod = node_of(path), pod_of(path)
    context = node["securityContext"]
    assert set(context["capabilities"]["add"]) == CAPABILITIES
    assert context["capabilities"]["drop"] == ["ALL"]
    assert "privileged" not in context
    mounts = {mount["name"]: mount["mountPath"] for mount in node["volumeMounts"]}
    assert mounts == {"tun": "/dev/net/tun", "state": "/var/lib/yggpy"}
    (device,) = [volume["hostPath"] for volume in pod["volumes"] if volume["name"] == "tun"]
    assert device == {"path": "/dev/net/tun", "type": "CharDevice"}


def test_the_probes_ask_where_the_node_answers() -> None:
    path = FOLDER / "daemonset.yaml"
    (settings,) = [document["data"] for document in documents(path) if document["kind"] == "ConfigMap"]
    node = node_of(path)
    probes = [node[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness")]
    assert [probe["path"] for probe in probes] == ["/healthz", "/readyz"]
    assert {f"{probe['host']}:{probe['port']}" for probe in probes} == {settings["YGG_HTTP_LISTEN"]}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_node_runs_with_its_variables(path: Path) -> None:
    from yggpy.config.environment import Environment
    from yggpy.config.parsing import ConfigText

    (settings,) = [document["data"] for document in documents(path) if document["kind"] == "ConfigMap"]
    found = Environment.read(settings, lambda name: b"")
    assert found.unknown == ()
    config = ConfigText(b"").build(members=found.over({}))
    config.check()
