"""The ``Firewall`` section: read, written, refused with a reason; absent unless somebody has written one."""

from __future__ import annotations

import json

import pytest

from yggpy.config import Config
from yggpy.config.firewall import FirewallConfig
from yggpy.errors import ConfigError
from yggpy.firewall import Rule

KEY = "ab" * 32
SECTION = f"""
{{
  Firewall: {{
    Rules: [
      {{ Name: web, Protocol: "tcp", Ports: [80, "443", "8000-8080"] }}
      {{
        # my laptop may do anything
        From: "{KEY}"
      }}
      {{ from: ["200:1::/32", "300:1:2:3::/64"], protocol: ["udp", 47] }}
      {{ Protocol: "udp", Ports: 53 }}
    ]
  }}
}}
"""
RULES = (
    Rule("web", (), ("tcp",), ("80", "443", "8000-8080")),
    Rule("", (KEY,)),
    Rule("", ("200:1::/32", "300:1:2:3::/64"), ("udp", "47")),
    Rule("", (), ("udp",), ("53",)),
)


def read(text: str) -> Config:
    return Config.from_bytes(text.encode())


def test_a_section_is_read() -> None:
    config = read(SECTION.replace("Name: web, Protocol", 'Name: "web", Protocol'))
    assert config.firewall == FirewallConfig(RULES)


@pytest.mark.parametrize("form", ["hjson", "json"])
def test_what_is_written_is_read_again(form: str) -> None:
    config = Config(firewall=FirewallConfig(RULES, enable=False))
    text = config.to_hjson() if form == "hjson" else config.to_json()
    assert read(text).firewall == config.firewall


def test_without_a_section_none_is_written() -> None:
    for text in (Config.generate().to_hjson(), Config.generate().to_json(), read("{Firewall: null}").to_hjson()):
        assert "Firewall" not in text
    assert "Firewall" not in json.loads(Config.generate().to_json())
    assert read("{}").firewall is None
    assert read("{}").firewall_rules() is None


def test_present_means_on_unless_it_says_otherwise() -> None:
    assert read("{Firewall: {}}").firewall_rules() is not None
    assert read("{Firewall: {Enable: true}}").firewall_rules() is not None
    assert read("{Firewall: {Enable: false}}").firewall_rules() is None


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("yes", "Firewall must be an object with Enable and Rules"),
        ("{Enabled: true}", 'Firewall has no "Enabled"; it can have Enable and Rules'),
        ('{Enable: "yes"}', "Firewall.Enable must be true or false"),
        ("{Rules: {}}", "Firewall.Rules must be a list of objects"),
        ("{Rules: [22]}", "Firewall.Rules[0] must be an object with Name, From, Protocol, Ports"),
        ("{Rules: [{}, {Port: 22}]}", 'Firewall.Rules[1] has no "Port"; it can have Name, From, Protocol, Ports'),
        ("{Rules: [{From: []}]}", "Firewall.Rules[0].From is empty; name something, or leave From out to mean any"),
        ("{Rules: [{From: null}]}", "Firewall.Rules[0].From must be a string, a number, or a list of these"),
        ('{Rules: [{From: ["", "x"]}]}', "Firewall.Rules[0].From must be a string, a number, or a list of these"),
        ("{Rules: [{Ports: [true]}]}", "Firewall.Rules[0].Ports must be a string, a number, or a list of these"),
    ],
)
def test_a_section_of_a_wrong_form_is_refused(section: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(f"{{Firewall: {section}\n}}")
    assert str(raised.value) == complaint


def test_rules_that_cannot_be_used_are_refused_before_the_start() -> None:
    config = Config(firewall=FirewallConfig((Rule(ports=("22",)),), enable=False))
    with pytest.raises(ConfigError, match="name tcp or udp"):
        config.check()
