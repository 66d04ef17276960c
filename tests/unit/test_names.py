"""Who has which name, what is answered about it, and when nodes are asked for theirs."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from yggpy.address import Address, Subnet
from yggpy.names import rollcall
from yggpy.names.claims import Claims, NameRules, Source, announced_name
from yggpy.names.labels import (
    Name,
    key_base32,
    key_labels,
    key_of_labels,
    may_become_key,
    parse_name,
    reverse_address,
    reverse_name,
    text_of,
)
from yggpy.names.rollcall import MAX_AT_ONCE, QUESTIONS_PER_SECOND, REFRESH, RollCall
from yggpy.names.zone import ANNOUNCED_TTL, KEY_TTL, NEGATIVE_TTL, STATIC_TTL, Answer, Zone

OWN, ALICE, BOB, EVE = (bytes([number]) * 32 for number in (0x41, 0x42, 0x43, 0x44))
NOW = 1_700_000_000.0
DOMAIN: Name = ("ygg",)


def address_of(key: bytes) -> IPv6Address:
    return IPv6Address(Address.for_key(key).packed)


# -- labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "A-b", "0", "x" * 63, "www.Shop", "xn--abc", "a.b."])
def test_host_names(text: str) -> None:
    assert parse_name(text) == tuple(text.lower().removesuffix(".").split("."))


@pytest.mark.parametrize(
    "text", ["", ".", "-a", "a-", "a_b", "a b", "ä", "a..b", "x" * 64, ".a", "a\n", "a\0", "ſ", "a." * 127 + "b"]
)
def test_what_is_no_host_name(text: str) -> None:
    assert parse_name(text) is None


def test_a_key_is_two_labels_or_one() -> None:
    labels = key_labels(ALICE)
    assert [len(label) for label in labels] == [32, 32]
    assert len(key_base32(ALICE)) == 52
    digits = ALICE.hex()
    for form in (labels, (digits[:1], digits[1:]), tuple(digits), (key_base32(ALICE),)):
        assert key_of_labels(form) == ALICE
    for form in ((), (digits[:-1],), (digits + "0",), ("g" * 32, "0" * 32), ("1" * 52,), (key_base32(ALICE)[:-1],)):
        assert key_of_labels(form) is None
    # Four bits of the last character say nothing: one spelling of the sixteen counts.
    last = "abcdefghijklmnopqrstuvwxyz234567"
    assert [key_of_labels((key_base32(ALICE)[:-1] + each,)) for each in last].count(ALICE) == 1
    assert may_become_key(()) and may_become_key((digits[:32],))
    assert not may_become_key(("xyz",)) and not may_become_key(labels) and not may_become_key((key_base32(ALICE),))


def test_names_of_addresses() -> None:
    address = IPv6Address("200:1:2::f")
    name = reverse_name(address)
    assert address.reverse_pointer == text_of(name)
    assert reverse_address(name) == address
    for bad in (name[1:], (*name[:-1], "org"), ("00", *name[2:]), ("", *name[1:]), ("g", *name[1:]), ()):
        assert reverse_address(bad) is None


# -- claims --------------------------------------------------------------------------------------------------


def owners(claims: Claims) -> dict[str, bytes | None]:
    return {text_of(name): hosts[0].key for name, hosts in claims.hosts.items()}


def reasons(claims: Claims) -> dict[bytes, str]:
    return {each.key: each.reason for each in claims.rejections}


def test_a_stranger_gets_no_name() -> None:
    claims = Claims(OWN, NameRules(trusted=(ALICE,)))
    claims.announce(EVE, "web", NOW)
    assert owners(claims) == {} and claims.rejections == () and claims.revision == 0
    claims.announce(ALICE, "Web", NOW + 1)
    assert owners(claims) == {"web": ALICE}
    assert claims.hosts[("web",)][0].address == address_of(ALICE)
    assert claims.hosts[("web",)][0].source is Source.ANNOUNCED


def test_the_first_keeps_a_name_until_it_gives_it_up() -> None:
    claims = Claims(OWN, NameRules(trusted=(ALICE, BOB)))
    claims.announce(BOB, "web", NOW)
    claims.announce(ALICE, "web", NOW + 1)
    claims.announce(BOB, "web", NOW + 2)
    claims.announce(ALICE, "WEB", NOW + 3)
    claims.announce(BOB, "Web", NOW + 4)
    assert owners(claims) == {"web": BOB}, "it is the same name in other letters"
    assert "announced it first" in reasons(claims)[ALICE]
    claims.announce(BOB, "mail", NOW + 4)
    assert owners(claims) == {"web": ALICE, "mail": BOB} and claims.rejections == ()
    claims.announce(BOB, "web", NOW + 5)
    assert owners(claims) == {"web": ALICE}
    claims.announce(ALICE, "", NOW + 6)
    assert owners(claims) == {"web": BOB}


def test_hosts_and_pins_and_the_own_name_go_before_what_is_announced() -> None:
    rules = NameRules({("db",): (BOB, IPv6Address("300::1"))}, {("web",): BOB, ("a", "b"): BOB}, (ALICE, OWN))
    claims = Claims(OWN, rules, "me")
    for number, name in enumerate(("db", "web", "me", "pk", "a.b", "x_y", "x.", "-" * 100)):
        claims.announce(ALICE, name, NOW + number)
        assert owners(claims) == {"db": BOB, "me": OWN}, name
        assert reasons(claims)[ALICE]
    assert len(claims.rejections[0].name) == 80
    # Pinned is not trusted with other names, and a pin that is not announced is no name.
    claims.announce(BOB, "mail", NOW)
    assert owners(claims) == {"db": BOB, "me": OWN}
    assert "pinned to other names" in reasons(claims)[BOB]
    claims.announce(BOB, "a.B", NOW)
    assert owners(claims)["a.b"] == BOB and claims.hosts[("a", "b")][0].source is Source.PINNED
    # Nobody speaks for this node.
    claims.announce(OWN, "other", NOW)
    assert owners(claims)["me"] == OWN


def test_the_own_name_is_judged_too() -> None:
    assert owners(Claims(OWN, NameRules(pins={("me",): ALICE}), "me")) == {}
    assert owners(Claims(OWN, NameRules(pins={("me",): OWN}), "me")) == {"me": OWN}
    assert owners(Claims(OWN, NameRules(), "My laptop")) == {}


def test_other_rules_take_names_from_those_who_are_not_trusted_any_more() -> None:
    claims = Claims(OWN, NameRules(trusted=(ALICE, BOB)))
    claims.announce(ALICE, "web", NOW)
    claims.announce(BOB, "web", NOW + 1)
    claims.change(NameRules(trusted=(BOB,)), "")
    assert owners(claims) == {"web": BOB}
    claims.change(NameRules(trusted=(BOB, ALICE)), "web")
    assert owners(claims) == {"web": OWN}
    assert claims.has_heard(BOB) and not claims.has_heard(ALICE)


def test_whom_to_ask() -> None:
    rules = NameRules({("db",): (EVE,)}, {("web",): BOB}, (ALICE, BOB, OWN, ALICE))
    assert rules.keys_to_ask(OWN) == (BOB, ALICE)


@pytest.mark.parametrize(
    ("info", "name"),
    [
        (b'{"name":"web"}', "web"),
        (b'{"name":7}', ""),
        (b'{"name":["web"]}', ""),
        (b"{}", ""),
        (b"[]", ""),
        (b'"name"', ""),
        (b"", ""),
        (b"\xff", ""),
        (b"[" * 16000, ""),
        (b'{"name":"a","name":"b"}', "b"),
        (b"9" * 5000, ""),
    ],
)
def test_the_name_in_a_node_info(info: bytes, name: str) -> None:
    assert announced_name(info) == name


# -- zone ----------------------------------------------------------------------------------------------------


def make_zone(claims: Claims) -> Zone:
    keys = {address_of(EVE): EVE}
    return Zone(DOMAIN, claims, keys.get, 1000)


@pytest.fixture
def zone() -> Zone:
    rules = NameRules(
        {("db",): (BOB, IPv6Address("2001:db8::1")), ("www", "shop"): (IPv6Address("300:1:2:3::80"),)},
        trusted=(ALICE,),
    )
    claims = Claims(OWN, rules)
    claims.announce(ALICE, "web", NOW)
    return make_zone(claims)


def ask(zone: Zone, text: str, kind: str = "AAAA") -> Answer:
    answer = zone.resolve(tuple(text.split(".")), kind)
    assert answer is not None
    return answer


def values(answer: Answer) -> list[tuple[str, int, str]]:
    return [(record.kind, record.ttl, record.value) for record in answer.records]


def test_names_in_the_domain(zone: Zone) -> None:
    assert values(ask(zone, "web.ygg")) == [("AAAA", ANNOUNCED_TTL, str(address_of(ALICE)))]
    assert values(ask(zone, "db.ygg")) == [
        ("AAAA", STATIC_TTL, str(address_of(BOB))),
        ("AAAA", STATIC_TTL, "2001:db8::1"),
    ]
    assert values(ask(zone, "www.shop.ygg", "ANY")) == [("AAAA", STATIC_TTL, "300:1:2:3::80")]
    for name in ("web.ygg", "shop.ygg", "pk.ygg"):
        nothing = ask(zone, name, "A")
        assert nothing.exists and nothing.records == () and nothing.zone == DOMAIN, name
    for name in ("nobody.ygg", "x.web.ygg", "x.shop.ygg", "x.pk.ygg"):
        assert not ask(zone, name).exists, name
    for name in ("yg", "org", "web.yggs", "web.ygg.org", "arpa", "1.0.0.127.in-addr.arpa"):
        assert zone.resolve(tuple(name.split(".")), "AAAA") is None, name
    assert zone.resolve((), "NS") is None


def test_names_of_keys(zone: Zone) -> None:
    for labels in (key_labels(EVE), (key_base32(EVE),)):
        assert values(ask(zone, text_of((*labels, "pk", "ygg")))) == [("AAAA", KEY_TTL, str(address_of(EVE)))]
    assert zone.key_name(EVE) == f"{EVE.hex()[:32]}.{EVE.hex()[32:]}.pk.ygg"
    # Who asks label by label must not hear "no such name" half-way.
    assert ask(zone, f"{EVE.hex()[32:]}.pk.ygg").exists
    assert not ask(zone, f"1.{zone.key_name(EVE)}").exists


def test_the_apex(zone: Zone) -> None:
    (soa,) = ask(zone, "ygg", "SOA").records
    server, mailbox, serial, *times = soa.value.split()
    assert (server, mailbox, serial) == (f"{zone.key_name(OWN)}.", "hostmaster.ygg.", "1002")
    assert times[-1] == str(NEGATIVE_TTL) and soa.ttl == NEGATIVE_TTL
    assert values(ask(zone, "ygg", "NS")) == [("NS", STATIC_TTL, server)]
    assert ask(zone, server.removesuffix(".")).records
    assert ask(zone, "ygg", "AAAA").exists and not ask(zone, "ygg").records


def pointer(zone: Zone, address: IPv6Address | str) -> list[str]:
    answer = zone.resolve(reverse_name(IPv6Address(address)), "PTR")
    return [] if answer is None else [record.value for record in answer.records]


def test_names_of_addresses_in_the_zone(zone: Zone) -> None:
    assert pointer(zone, address_of(ALICE)) == ["web.ygg."]
    assert pointer(zone, address_of(BOB)) == ["db.ygg."]
    assert pointer(zone, "300:1:2:3::80") == ["www.shop.ygg."]
    assert pointer(zone, "2001:db8::1") == ["db.ygg."]
    host = IPv6Address(Subnet.for_key(ALICE).packed + b"\0\0\0\0\0\0\0\7")
    assert pointer(zone, host) == ["web.ygg."]
    # A key without a name, but known.
    assert pointer(zone, address_of(EVE)) == [f"{zone.key_name(EVE)}."]
    assert zone.resolve(reverse_name(IPv6Address("2001:db8::2")), "PTR") is None
    unknown = zone.resolve(reverse_name(IPv6Address("200::9")), "PTR")
    assert unknown is not None and not unknown.exists and unknown.zone == ("2", "0", "ip6", "arpa")
    # Half an address exists, junk does not.
    assert ask(zone, "0.0.0.3.0.ip6.arpa", "PTR").exists
    assert ask(zone, "2.0.ip6.arpa", "SOA").records
    assert not ask(zone, "g.0.2.0.ip6.arpa", "PTR").exists
    assert not ask(zone, "1." + text_of(reverse_name(address_of(ALICE))), "PTR").exists


def test_answers_follow_the_claims() -> None:
    claims = Claims(OWN, NameRules(trusted=(ALICE,)))
    zone = make_zone(claims)
    assert not ask(zone, "web.ygg").exists
    before = ask(zone, "ygg", "SOA").records[0].value
    claims.announce(ALICE, "web", NOW)
    assert ask(zone, "web.ygg").exists and pointer(zone, address_of(ALICE)) == ["web.ygg."]
    assert ask(zone, "ygg", "SOA").records[0].value != before
    claims.announce(ALICE, "", NOW)
    assert not ask(zone, "web.ygg").exists


def test_what_might_be_announced_yet() -> None:
    zone = make_zone(Claims(OWN, NameRules(pins={("a", "b"): BOB})))
    for text in ("x.ygg", "a.b.ygg"):
        assert zone.may_be_announced(tuple(text.split("."))), text
    for text in ("pk.ygg", "x_.ygg", "x.y.ygg", "x", "ygg"):
        assert not zone.may_be_announced(tuple(text.split("."))), text


# -- roll call -----------------------------------------------------------------------------------------------


def test_silent_nodes_are_asked_less_and_less() -> None:
    roll = RollCall((ALICE,), NOW)
    now, gaps = NOW, []
    for _ in range(9):
        assert roll.take_due(now) == [ALICE]
        assert roll.take_due(now + 100) == [] and roll.next_due() is None
        roll.silent(ALICE, now)
        due = roll.next_due()
        assert due is not None
        gaps.append(due - now)
        assert roll.take_due(due - 1) == []
        now = due
    assert gaps == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert roll.take_due(now) == [ALICE]
    roll.answered(ALICE, now)
    assert roll.next_due() == now + REFRESH


def test_an_unknown_name_is_a_reason_to_ask_sooner_but_not_always() -> None:
    roll = RollCall((ALICE, BOB), NOW)
    assert roll.take_due(NOW) == [ALICE, BOB]
    roll.answered(ALICE, NOW)
    roll.silent(BOB, NOW)
    assert not roll.hurry(NOW + rollcall.SOONER_HEARD - 1) and roll.take_due(NOW + 5) == []
    assert roll.hurry(NOW + rollcall.SOONER_HEARD)
    assert roll.take_due(NOW + rollcall.SOONER_HEARD) == [BOB, ALICE]  # BOB since he is due anyway
    assert roll.asked_since(NOW + 1) and not roll.asked_since(NOW + 100)


def test_questions_are_bounded() -> None:
    keys = [number.to_bytes(32, "big") for number in range(100)]
    roll = RollCall(keys, NOW)
    taken = [len(roll.take_due(NOW + second)) for second in range(5)]
    assert taken == [QUESTIONS_PER_SECOND, MAX_AT_ONCE - QUESTIONS_PER_SECOND, 0, 0, 0]
    roll.answered(keys[0], NOW + 5)
    assert roll.take_due(NOW + 6) == [keys[MAX_AT_ONCE]]


def test_other_keys_to_ask() -> None:
    roll = RollCall((ALICE, BOB), NOW)
    roll.take_due(NOW)
    roll.answered(BOB, NOW)
    roll.change((BOB, EVE), NOW + 1)
    assert roll.take_due(NOW + 1) == [EVE]
    roll.answered(ALICE, NOW + 2)  # came late, and nobody minds
    roll.silent(ALICE, NOW + 2)
