"""``/metrics`` and ``/readyz`` as Prometheus' own parser reads them, of real nodes; and the documents about them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.links_fakes import until
from yggpy.config import Config
from yggpy.config.dns import DnsConfig
from yggpy.config.firewall import FirewallConfig
from yggpy.firewall.rules import Rule
from yggpy.monitoring import endpoint as endpoint_module
from yggpy.monitoring.collector import NodeCollector
from yggpy.monitoring.endpoint import MonitoringEndpoint
from yggpy.monitoring.http import Request
from yggpy.monitoring.names import METRICS
from yggpy.monitoring.peers import MAX_LABELLED
from yggpy.node import Node
from yggpy.status import PeerStatus

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "contrib" / "grafana" / "yggpy.json"
SCRAPE_CONFIG = ROOT / "contrib" / "prometheus" / "yggpy.yml"
LOG = logging.getLogger("test.monitoring")
PROCESS_METRICS = {
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
}
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def parse(text: str) -> Samples:
    """Return values by metric and labels."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in series, f"{sample.name}{labels} is there twice"
            series[labels] = sample.value
    return found


def metrics_of(endpoint: MonitoringEndpoint) -> Samples:
    answer = endpoint.answer(Request("/metrics"))
    assert (answer.status, answer.content_type.split(";")[0]) == (200, "text/plain")
    return parse(answer.body.decode())


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name][tuple(sorted(labels.items()))]


def quiet(**settings: Any) -> Config:
    return Config(if_name="none", admin_listen="none", multicast_interfaces=[], **settings)


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "METRICS_LIFE", 0.0)
    monkeypatch.setattr(endpoint_module, "HEALTH_LIFE", 0.0)


@pytest.fixture(params=["pure", "native"])
def plane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("YGGPY_DATAPATH", request.param)
    return str(request.param)


async def test_the_metrics_of_two_nodes(plane: str) -> None:
    names = DnsConfig(listen=(), hosts={"box": ("200::1",)})
    router_config = quiet(listen=["tcp://127.0.0.1:0"], firewall=FirewallConfig((Rule("all of it"),)), dns=names)
    async with Node(router_config) as router:
        (uri,) = router.listen_addresses
        async with Node(quiet(peers=[uri, "tcp://127.0.0.1:1"])) as leaf:
            pages = MonitoringEndpoint(leaf, LOG), MonitoringEndpoint(router, LOG)
            await until(lambda: router.status_health().up == 1 and router.core.router.joined)
            await until(lambda: leaf.core.router.joined)
            async with asyncio.timeout(30):
                for _ in range(10):
                    await leaf.send(router.public_key, b"x" * 1000)
                    await router.receive()
            here, there = map(metrics_of, pages)
            for samples in (here, there):
                assert set(samples) <= {metric.name for metric in METRICS} | PROCESS_METRICS
                assert value(samples, "yggpy_ready") == 1
                assert value(samples, "yggpy_tree_nodes") == 2
                assert value(samples, "yggpy_sessions") == 1
                assert value(samples, "yggpy_tun_up") == 0
                ((labels, one),) = samples["yggpy_build_info"].items()
                assert (dict(labels)["datapath"], one) == (plane, 1)
                assert 0 < samples["process_resident_memory_bytes"][()] < 2**34
            everything = {metric.name for metric in METRICS} - {"yggpy_http_requests_total", "yggpy_peer_info"}
            assert everything - set(there) == {"yggpy_peer_up"} - set(there)
            assert value(there, "yggpy_dns_names") == 1
            assert value(there, "yggpy_dns_questions_total", outcome="refused") == 0
            assert value(here, "yggpy_peer_up", uri=uri) == 1
            assert value(here, "yggpy_peer_up", uri="tcp://127.0.0.1:1") == 0
            assert value(here, "yggpy_peer_info", uri=uri, peer=str(router.address)) == 1
            assert value(here, "yggpy_links", kind="configured", state="up") == 1
            assert value(here, "yggpy_links", kind="configured", state="down") == 1
            assert value(there, "yggpy_links", kind="incoming", state="up") == 1
            assert {value(side, "yggpy_tree_depth") for side in (here, there)} == {0, 1}
            assert {value(side, "yggpy_tree_is_root") for side in (here, there)} == {0, 1}
            assert sum(value(side, "yggpy_tree_parent_changes_total") for side in (here, there)) == 1
            for side, peer in ((here, router), (there, leaf)):
                address = str(peer.address)
                total = value(side, "yggpy_link_received_bytes_total")
                assert 0 < value(side, "yggpy_peer_received_bytes_total", peer=address) - total < 1000, "the handshake"
                assert value(side, "yggpy_peer_links", peer=address) == 1
                assert value(side, "yggpy_peer_rtt_seconds", peer=address) > 0
            assert value(here, "yggpy_session_sent_bytes_total") >= 10 * 1001
            assert value(there, "yggpy_session_received_bytes_total") >= 10 * 1001
            assert value(there, "yggpy_link_received_bytes_total") > 10_000
            assert value(there, "yggpy_firewall_enabled") == 1
            assert value(there, "yggpy_firewall_allowed_packets_total", rule="all of it") == 0
            assert value(here, "yggpy_firewall_enabled") == 0
            assert "yggpy_firewall_flows" not in here


async def test_readiness_as_text_and_as_json() -> None:
    async with Node(quiet(peers=["tcp://user:secret@127.0.0.1:1"])) as node:
        pages = MonitoringEndpoint(node, LOG)
        await until(lambda: b"refused" in pages.answer(Request("/readyz")).body)
        answer = pages.answer(Request("/readyz"))
        assert answer.status == 503
        assert answer.body.startswith(b"not ready: none of 1 configured peer is up: tcp://***@127.0.0.1:1 (")
        as_json = pages.answer(Request("/readyz", "text/html, Application/JSON"))
        assert (as_json.status, as_json.content_type) == (503, "application/json")
        told = json.loads(as_json.body)
        assert (told["ready"], told["configured"], told["failing"][0]["remote"]) == (False, 1, "tcp://***@127.0.0.1:1")
        assert b"secret" not in pages.answer(Request("/metrics")).body
        await node.remove_peer("tcp://user:secret@127.0.0.1:1")
        assert await node.listen("tcp://127.0.0.1:0")
        answer = pages.answer(Request("/readyz"))
        assert (answer.status, answer.body[:22]) == (200, b"ready: root by intent:")
        assert json.loads(pages.answer(Request("/readyz", "application/json")).body)["ready"] is True


async def test_metrics_in_the_newer_format_and_for_many_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "METRICS_LIFE", 60.0)
    async with Node(quiet()) as node:
        pages = MonitoringEndpoint(node, LOG)
        newer = pages.answer(Request("/metrics", "application/openmetrics-text;version=1.0.0"))
        assert newer.content_type.startswith("application/openmetrics-text")
        assert newer.body.endswith(b"# EOF\n")
        plain = pages.answer(Request("/metrics"))
        pages.served("/metrics", 200)
        assert pages.answer(Request("/metrics")).body is plain.body
        monkeypatch.setattr(endpoint_module, "METRICS_LIFE", 0.0)
        assert value(metrics_of(pages), "yggpy_http_requests_total", page="/metrics", code="200") == 1


async def test_labels_are_bounded_and_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Node(quiet()) as node:
        odd = 'tcp://a"\n\\b:1'
        peers = [PeerStatus(odd, True, False, address="200::1", link_id=1)]
        peers += [
            PeerStatus(f"tcp://u:secret@p{number}", True, False, address=f"200::{number:x}", link_id=number)
            for number in range(2, 500)
        ]
        monkeypatch.setattr(node, "status_peers", lambda: peers)
        registry = CollectorRegistry()
        registry.register(NodeCollector(node, Counter({("other", 404): 3})))
        text = generate_latest(registry).decode()
        samples = parse(text)
        assert max(map(len, samples.values())) == MAX_LABELLED + 1
        assert value(samples, "yggpy_peer_up", uri="other") == 499 - MAX_LABELLED
        assert value(samples, "yggpy_peer_links", peer="other") == 499 - MAX_LABELLED
        assert value(samples, "yggpy_peer_up", uri='tcp://a"\\n\\b:1') == 1
        assert "secret" not in text


async def test_a_defect_is_told_and_harms_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async with Node(quiet()) as node:
        pages = MonitoringEndpoint(node, LOG)
        node.status_place = None  # type: ignore[method-assign,assignment]
        assert pages.answer(Request("/metrics")).status == 500
        assert "bug" in caplog.text
        assert pages.answer(Request("/healthz")).status == 200


# -- documents -----------------------------------------------------------------------------------------------


def test_the_page_lists_every_metric_as_the_code_has_it() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(yggpy_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE)
    assert rows == [
        (metric.name, metric.kind.value, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]


def test_names_follow_the_conventions() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind.value == "counter")
        assert re.fullmatch(r"yggpy_[a-z_]+", metric.name)
        assert metric.help and not metric.help.endswith(".")


def _expressions(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for element in node for found in _expressions(element)]
    if not isinstance(node, dict) or node.get("type") == "datasource":
        return []
    own = [node[key] for key in ("expr", "query", "definition") if isinstance(node.get(key), str)]
    return own + [found for member in node.values() for found in _expressions(member)]


def test_the_dashboard_asks_for_nothing_but_metrics_and_labels_that_exist() -> None:
    labels = {metric.name: set(metric.labels) for metric in METRICS} | {name: set() for name in PROCESS_METRICS}
    everywhere = {"instance", "job"}
    expressions = _expressions(json.loads(DASHBOARD.read_text()))
    assert len(expressions) > 15
    used = set()
    for expression in expressions:
        names = re.findall(r"\b((?:yggpy|process)_\w+)", expression)
        assert names, f"no metric in {expression}"
        assert set(names) <= labels.keys(), expression
        used |= set(names)
        known = everywhere.union(*(labels[name] for name in names))
        wanted = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression)
        for group in re.findall(r"\b(?:by|on|group_left)\s*\(([^)]*)\)", expression):
            wanted += [label.strip() for label in group.split(",") if label.strip()]
        assert set(wanted) <= known, expression
    assert {"yggpy_ready", "yggpy_peer_up", "yggpy_link_dropped_packets_total", "process_resident_memory_bytes"} <= used


def test_the_scrape_configuration_is_the_one_in_the_page() -> None:
    text = SCRAPE_CONFIG.read_text()
    assert text in (ROOT / "docs" / "metrics.md").read_text()
    rules = re.findall(r"expr: (.*)", text)
    names = {metric.name for metric in METRICS}
    for expression in rules:
        assert set(re.findall(r"\byggpy_\w+", expression)) <= names
