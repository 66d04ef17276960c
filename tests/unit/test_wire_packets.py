"""Packets: layouts, signatures and verdicts against Go's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load, public_keys
from yggpy.keys import PrivateKey
from yggpy.wire import packets
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import MAX_FRAME_SIZE, FrameType, encode_frame
from yggpy.wire.packets import (
    BLOOM_WORDS,
    MAX_TRAFFIC_PAYLOAD,
    MAX_WATERMARK,
    Announce,
    BloomFilter,
    PathBroken,
    PathLookup,
    PathNotify,
    SigReq,
    SigRes,
    Traffic,
    tree_signed_bytes,
)

KEYS = public_keys("packets")
SECRETS = {entry["label"]: PrivateKey(bytes.fromhex(entry["seed"])) for entry in load("packets")["keys"]}
DECODE = load("malformed")["decode"]
CHECKS = load("malformed")["checks"]


def of(name: str) -> list[dict[str, Any]]:
    found = [entry for entry in load("packets")["packets"] if entry["packet"] == name]
    assert found
    return found


def ports(numbers: list[str]) -> tuple[int, ...]:
    return tuple(map(int, numbers))


def check_layout(packet: Any, entry: dict[str, Any]) -> None:
    payload = bytes.fromhex(entry["payload"])
    assert packet.encode() == payload
    assert type(packet).decode(payload) == packet


@pytest.mark.parametrize("entry", of("SigReq"), ids=lambda e: str(e["payload"]))
def test_sig_req(entry: dict[str, Any]) -> None:
    check_layout(SigReq(int(entry["fields"]["seq"]), int(entry["fields"]["nonce"])), entry)


@pytest.mark.parametrize("entry", of("SigRes"), ids=lambda e: str(e["description"]))
def test_sig_res(entry: dict[str, Any]) -> None:
    fields = entry["fields"]
    numbers = int(fields["seq"]), int(fields["nonce"]), int(fields["port"])
    packet = SigRes(*numbers, bytes.fromhex(fields["psig"]))
    check_layout(packet, entry)
    node, parent = KEYS[fields["node"]], KEYS[fields["parent"]]
    signed = tree_signed_bytes(node, parent, *numbers)
    assert signed.hex() == fields["signed_bytes"]
    assert SECRETS[fields["parent"]].sign(signed) == packet.psig
    assert packet.verify(node, parent)
    assert not packet.verify(parent, node)


@pytest.mark.parametrize("entry", of("Announce"), ids=lambda e: str(e["description"]))
def test_announce(entry: dict[str, Any]) -> None:
    fields = entry["fields"]
    packet = Announce(
        KEYS[fields["key"]],
        KEYS[fields["parent"]],
        int(fields["seq"]),
        int(fields["nonce"]),
        int(fields["port"]),
        bytes.fromhex(fields["psig"]),
        bytes.fromhex(fields["sig"]),
    )
    check_layout(packet, entry)
    assert packet.signed_bytes().hex() == fields["signed_bytes"]
    assert SECRETS[fields["key"]].sign(packet.signed_bytes()) == packet.sig
    assert SECRETS[fields["parent"]].sign(packet.signed_bytes()) == packet.psig
    assert packet.verify()


@pytest.mark.parametrize("entry", of("BloomFilter"), ids=lambda e: ",".join(e["fields"]["keys"]))
def test_bloom_filter(entry: dict[str, Any]) -> None:
    payload = bytes.fromhex(entry["payload"])
    packet = BloomFilter.decode(payload)
    assert len(packet.words) == BLOOM_WORDS
    assert packet.encode() == payload
    assert any(packet.words) is bool(entry["fields"]["keys"])


@pytest.mark.parametrize("entry", of("PathLookup"), ids=lambda e: str(e["description"]))
def test_path_lookup(entry: dict[str, Any]) -> None:
    fields = entry["fields"]
    check_layout(PathLookup(KEYS[fields["source"]], bytes.fromhex(fields["dest_hex"]), ports(fields["from"])), entry)


@pytest.mark.parametrize("entry", of("PathNotify"), ids=lambda e: str(e["description"]))
def test_path_notify(entry: dict[str, Any]) -> None:
    fields = entry["fields"]
    packet = PathNotify(
        ports(fields["path"]),
        int(fields["watermark"]),
        KEYS[fields["source"]],
        KEYS[fields["dest"]],
        int(fields["info_seq"]),
        ports(fields["info_path"]),
        bytes.fromhex(fields["info_sig"]),
    )
    check_layout(packet, entry)
    assert packet.signed_bytes().hex() == fields["signed_bytes"]
    assert SECRETS[fields["source"]].sign(packet.signed_bytes()) == packet.info_sig
    assert packet.verify()


@pytest.mark.parametrize("entry", of("PathBroken"), ids=lambda e: str(e["description"]))
def test_path_broken(entry: dict[str, Any]) -> None:
    fields = entry["fields"]
    packet = PathBroken(ports(fields["path"]), int(fields["watermark"]), KEYS[fields["source"]], KEYS[fields["dest"]])
    check_layout(packet, entry)


@pytest.mark.parametrize("entry", of("Traffic"), ids=lambda e: str(e["description"]))
def test_traffic(entry: dict[str, Any]) -> None:
    fields = entry["fields"]
    packet = Traffic(
        ports(fields["path"]),
        ports(fields["from"]),
        KEYS[fields["source"]],
        KEYS[fields["dest"]],
        int(fields["watermark"]),
        bytes.fromhex(fields["payload"]),
    )
    check_layout(packet, entry)


@pytest.mark.parametrize("entry", DECODE, ids=lambda e: f"{e['packet']}-{e['description']}")
def test_verdicts_of_the_decoders(entry: dict[str, Any]) -> None:
    decode = getattr(packets, entry["packet"]).decode
    payload = bytes.fromhex(entry["payload"])
    if entry["decode"] == "ok":
        assert decode(payload) == decode(decode(payload).encode())
    else:
        with pytest.raises(DecodeError):
            decode(payload)


@pytest.mark.parametrize("entry", CHECKS, ids=lambda e: f"{e['packet']}-{e['description']}")
def test_verdicts_on_signatures(entry: dict[str, Any]) -> None:
    packet = getattr(packets, entry["packet"]).decode(bytes.fromhex(entry["payload"]))
    if isinstance(packet, SigRes):
        verdict = packet.verify(bytes.fromhex(entry["node"]), bytes.fromhex(entry["parent"]))
    else:
        verdict = packet.verify()
    assert verdict is entry["check"]


def test_bloom_words_of_every_kind() -> None:
    words = [0] * BLOOM_WORDS
    words[0] = words[127] = 2**64 - 1
    words[1], words[126] = 1, 2**63
    encoded = BloomFilter(tuple(words)).encode()
    assert encoded[:16] == bytes.fromhex("3f" + "ff" * 14 + "fc")
    assert encoded[16:32] == bytes.fromhex("80" + "00" * 14 + "01")
    assert encoded[32:] == (1).to_bytes(8, "big") + (2**63).to_bytes(8, "big")
    assert BloomFilter.decode(encoded).words == tuple(words)


@pytest.mark.parametrize("words", [(0,) * 127, (0,) * 129, (0,) * 127 + (2**64,), (-1,) + (0,) * 127])
def test_bloom_filters_that_cannot_be_encoded(words: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        BloomFilter(words).encode()


KEY, SIG = bytes(32), bytes(64)


@pytest.mark.parametrize(
    "packet",
    [
        SigRes(1, 2, 3, SIG[1:]),
        Announce(KEY[1:], KEY, 1, 2, 3, SIG, SIG),
        Announce(KEY, KEY + b"\0", 1, 2, 3, SIG, SIG),
        Announce(KEY, KEY, 1, 2, 3, SIG, b""),
        PathLookup(KEY, b"", ()),
        PathNotify((), 1, KEY, KEY, 1, (), SIG[1:]),
        PathNotify((), 1, KEY, KEY, 1, (0,), SIG),
        PathBroken((), 2**64, KEY, KEY),
        PathBroken((), 1, KEY[1:], KEY),
        Traffic((), (), KEY, KEY[1:], 1, b""),
    ],
    ids=lambda p: type(p).__name__,
)
def test_records_that_cannot_be_encoded(packet: Any) -> None:
    with pytest.raises(ValueError):
        packet.encode()


def test_the_largest_traffic_fits_its_frame() -> None:
    packet = Traffic((), (), KEY, KEY, MAX_WATERMARK, bytes(MAX_TRAFFIC_PAYLOAD))
    assert len(packet.encode()) == MAX_FRAME_SIZE - 1
    encode_frame(FrameType.TRAFFIC, packet.encode())
