"""The ``DNS`` section: read, written, refused with a reason and a place; absent unless somebody has written one."""

from __future__ import annotations

import json
from ipaddress import IPv6Address, ip_network
from pathlib import Path

import pytest

from yggpy.cli.checkconf import check_source
from yggpy.cli.configfile import ConfigSource
from yggpy.config import Config
from yggpy.config.dns import MAX_ENTRIES, DnsConfig
from yggpy.config.environment import Environment
from yggpy.errors import ConfigError

KEY, OTHER = "ab" * 32, "0123456789" * 6 + "abcd"
SECTION = f"""
{{
  DNS: {{
    listen: "127.0.0.1:5300"
    Domain: Mesh.Example
    Hosts: {{
      db: 200:1234::1
      Web: ["{KEY}", "300::1"]
      www.shop: {OTHER}
    }}
    TrustedKeys: ["{KEY}"]
    Pins: {{
      mail: {OTHER}
    }}
    Clients: ["172.17.0.0/16", "300:1:2:3::/64", "10.0.0.1"]
    Forward: ["1.1.1.1", "[2606:4700::1111]:5353"]
  }}
}}
"""


def read(text: str) -> Config:
    return Config.from_bytes(text.encode())


def section_of(text: str) -> DnsConfig:
    section = read(text).dns
    assert section is not None
    return section


def test_a_section_is_read() -> None:
    section = section_of(SECTION)
    assert section.endpoints() == (("127.0.0.1", 5300),)
    assert section.domain_name() == ("mesh", "example")
    rules = section.rules()
    assert rules.hosts == {
        ("db",): (IPv6Address("200:1234::1"),),
        ("web",): (bytes.fromhex(KEY), IPv6Address("300::1")),
        ("www", "shop"): (bytes.fromhex(OTHER),),
    }
    assert rules.pins == {("mail",): bytes.fromhex(OTHER)}
    assert rules.trusted == (bytes.fromhex(KEY),)
    assert section.networks() == tuple(map(ip_network, ("172.17.0.0/16", "300:1:2:3::/64", "10.0.0.1/32")))
    assert section.upstreams() == (("1.1.1.1", 53), ("2606:4700::1111", 5353))


def test_an_empty_section_has_the_defaults() -> None:
    for text in ("{DNS: {}}", "{DNS: {Listen: null\nHosts: null\nForward: null\n}}"):
        section = section_of(text)
        assert section == DnsConfig()
        assert section.endpoints() == (("127.0.0.1", 53), ("::1", 53))
        assert section.domain_name() == ("ygg",)
    assert section_of("{DNS: {Listen: []}}").endpoints() == ()


@pytest.mark.parametrize("form", ["hjson", "json"])
def test_what_is_written_is_read_again(form: str) -> None:
    config = read(SECTION)
    text = config.to_hjson() if form == "hjson" else config.to_json()
    assert section_of(text) == config.dns


def test_without_a_section_none_is_written() -> None:
    for text in (Config.generate().to_hjson(), Config.generate().to_json(), read("{DNS: null\n}").to_hjson()):
        assert "DNS" not in text


def test_by_the_environment() -> None:
    variables = {"YGG_DNS": json.dumps({"Hosts": {"db": "200::1"}, "listen": []})}
    environment = Environment.read(variables, lambda path: b"")
    config = ConfigSource(None, environment, defaults=True).load()
    assert config.dns == DnsConfig(listen=(), hosts={"db": ("200::1",)})
    bad = Environment.read({"YGG_DNS": '{"Hosts": {"db": "x"}}'}, lambda path: b"")
    with pytest.raises(ConfigError, match=r'YGG_DNS: DNS.Hosts.db: "x" is neither'):
        ConfigSource(None, bad, defaults=True).load()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ('Lisen: ["::1"]', 'DNS has no "Lisen"; did you mean "Listen"?'),
        ("Zone: x", 'DNS has no "Zone"; it can have Listen, Domain, '),
        ('Listen: ["localhost:53"]', 'DNS.Listen[0]: "localhost:53" must be an address and a port'),
        ('Listen: ["[::1"]', "must be an address and a port"),
        ('Listen: ["::1:99999x"]', "must be an address and a port"),
        ('Listen: ["127.0.0.1:65536"]', "must be an address and a port"),
        ('Listen: ["127.0.0.1:"]', "must be an address and a port"),
        ('Listen: ["[::1]:"]', "must be an address and a port"),
        ("Listen: [1\n]", "must be an address and a port"),
        ("Listen: [[]]", "DNS.Listen[0] must be a string"),
        ("Domain: my_domain", 'DNS.Domain: "my_domain" is no domain'),
        ("Domain: {}", "DNS.Domain must be a string"),
        ('Domain: ""', "is no domain"),
        ("Domain: x.arpa", "is where the names of addresses are"),
        (f"Domain: {'a.' * 100}b", "DNS.Domain is too long"),
        ("Hosts: []", "DNS.Hosts must be an object of names"),
        ("Hosts: {a_b: 200::1\n}", 'DNS.Hosts.a_b: "a_b" is no host name'),
        ("Hosts: {db: 10.0.0.1\n}", 'DNS.Hosts.db: "10.0.0.1" is neither a public key nor an IPv6 address'),
        ("Hosts: {db: fe80::1%eth0\n}", "is neither a public key nor an IPv6 address"),
        (f"Hosts: {{db: {'x' * 64}\n}}", "is no public key"),
        ("Hosts: {db: []}", "must have 1 to 16 keys or addresses"),
        ("Hosts: {db: 200::1\nDB: 200::2\n}", 'the name "DB" is there twice'),
        ("Hosts: {a.pk: 200::1\n}", 'names below "pk" are those of keys'),
        (f"Hosts: {{db: 200::1\n}}\nPins: {{db: {KEY}\n}}", 'DNS.Pins.db: the name "db" is there twice'),
        (f"Hosts: {{{'a.' * 125}b: 200::1\n}}", "is too long together with the domain"),
        ("Pins: {db: 200::1\n}", 'DNS.Pins.db: "200::1" is no public key'),
        ('TrustedKeys: ["ab"]', 'DNS.TrustedKeys[0]: "ab" is no public key'),
        (f'TrustedKeys: ["{KEY[:-2]} a"]', "is no public key"),
        ('Clients: ["172.17.0.1/16"]', "is no network: host bits are set"),
        ('Clients: ["all"]', "is no network: it must be like"),
        ('Forward: ["dns.example"]', "DNS.Forward[0]"),
        ('Forward: ["1.1.1.1:0"]', "needs a port other than 0"),
        ('Listen: ["127.0.0.1:53"]\nForward: ["127.0.0.1:53"]', "is where this node listens itself"),
        ('Forward: ["127.0.0.1"]', 'DNS.Forward[0]: "127.0.0.1" is where this node listens itself'),
        ('Forward: ["[0:0::1]:53"]', "is where this node listens itself"),
        ('Listen: ["0.0.0.0:5300"]\nForward: ["127.0.0.53:5300"]', "is where this node listens itself"),
        ('Listen: ["::"]\nForward: ["::1"]', "is where this node listens itself"),
        ('Forward: ["0.0.0.0"]', "is no address of a resolver"),
        ('Forward: ["[::]:5353"]', "is no address of a resolver"),
        (f"Clients: {json.dumps(['::1/128'] * (MAX_ENTRIES + 1))}", "it can have 1024"),
    ],
)
def test_mistakes(members: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"{{DNS: {{{members}\n}}\n}}")
    assert message in str(caught.value)
    assert caught.value.key.startswith("DNS")


@pytest.mark.parametrize(
    "members",
    [
        'Forward: ["127.0.0.53"]',
        'Listen: ["127.0.0.1:5300"]\nForward: ["127.0.0.1"]',
        'Listen: ["0.0.0.0"]\nForward: ["127.0.0.1:5300", "192.0.2.1", "::1"]',
        'Listen: []\nForward: ["127.0.0.1"]',
    ],
)
def test_other_resolvers_on_this_machine(members: str) -> None:
    assert section_of(f"{{DNS: {{{members}\n}}\n}}").upstreams()


def test_checkconf_names_every_mistake_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "node.conf"
    path.write_text(
        "{\n"
        "  IfMTU: 1280\n"
        "  DNS: {\n"
        "    Domain: a_b\n"
        '    Listen: ["::1", "nowhere"]\n'
        "    Hosts: {\n"
        "      db: 200::1\n"
        "      web: x\n"
        "    }\n"
        "  }\n"
        "}\n"
    )
    report, good = check_source(ConfigSource(str(path)))
    assert not good
    places = [line.removeprefix(f"{path}:").split(":")[0] for line in report.splitlines()[:-1]]
    assert places == ["4", "5", "8"], report
    path.write_text("{\n  DNS: {\n    Trusted: []\n  }\n}\n")
    report, good = check_source(ConfigSource(str(path)))
    assert f'{path}:3:5: DNS has no "Trusted"; did you mean "TrustedKeys"?' in report and not good


def test_a_section_of_a_program_is_checked_too() -> None:
    config = Config(dns=DnsConfig(domain="-", listen=("x",)))
    with pytest.raises(ConfigError) as caught:
        config.check()
    assert {problem.key for problem in caught.value.problems} == {"DNS.Domain", "DNS.Listen[0]"}
