"""The packets that frames carry, SigReq to Traffic (protocol section 4).

Each packet is a frozen record with ``encode`` and ``decode``; ``decode`` wants the payload of its frame to be used up
exactly and raises ``DecodeError`` otherwise. What is signed is always encoded afresh, so an over-long number on the
wire does not change a verdict. Encoding a record with fields of a wrong size or range raises ``ValueError``.

Keys are 32 bytes, signatures 64; paths are tuples of ports, without the final zero. Numbers have 64 bits.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from yggpy.keys import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, verify
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import MAX_FRAME_SIZE
from yggpy.wire.uvarint import MAX_UVARINT, decode_path, decode_uvarint, encode_path, encode_uvarint

__all__ = [
    "BLOOM_WORDS",
    "MAX_TRAFFIC_PAYLOAD",
    "MAX_WATERMARK",
    "Announce",
    "BloomFilter",
    "PathBroken",
    "PathLookup",
    "PathNotify",
    "SigReq",
    "SigRes",
    "Traffic",
    "path_info_signed_bytes",
    "tree_signed_bytes",
]

MAX_WATERMARK = MAX_UVARINT
"""The watermark of a packet that has made no hop yet."""
MAX_TRAFFIC_PAYLOAD = MAX_FRAME_SIZE - 1 - 76
"""Largest payload of a Traffic packet; 76 = two empty paths, two keys and the longest watermark."""
BLOOM_WORDS = 128
"""Words of 64 bits in a bloom filter."""

_WORD_ONES = 2**64 - 1
_FLAGS_SIZE = BLOOM_WORDS // 8


def tree_signed_bytes(node: bytes, parent: bytes, seq: int, nonce: int, port: int) -> bytes:
    """Return what ``parent`` signs to become the parent of ``node`` (``psig``), and ``node`` to accept it (``sig``)."""
    return b"".join((node, parent, encode_uvarint(seq), encode_uvarint(nonce), encode_uvarint(port)))


def path_info_signed_bytes(seq: int, path: tuple[int, ...]) -> bytes:
    """Return what the source of a PathNotify signs: its coordinates and when (Unix seconds) it had them."""
    return encode_uvarint(seq) + encode_path(path)


@dataclass(frozen=True, slots=True)
class SigReq:
    """A child-to-be asks its peer for a signature."""

    seq: int
    nonce: int

    def encode(self) -> bytes:
        """Return the payload of the frame."""
        return encode_uvarint(self.seq) + encode_uvarint(self.nonce)

    @classmethod
    def decode(cls, payload: bytes) -> SigReq:
        """Read a frame's payload."""
        seq, offset = decode_uvarint(payload)
        nonce, offset = decode_uvarint(payload, offset)
        _expect_end(payload, offset)
        return cls(seq, nonce)


@dataclass(frozen=True, slots=True)
class SigRes:
    """The peer's answer: the request's numbers, the port it gave the requester, and its signature."""

    seq: int
    nonce: int
    port: int
    psig: bytes

    def encode(self) -> bytes:
        """Return the payload of the frame."""
        return b"".join(
            (encode_uvarint(self.seq), encode_uvarint(self.nonce), encode_uvarint(self.port), _signature(self.psig))
        )

    @classmethod
    def decode(cls, payload: bytes) -> SigRes:
        """Read a frame's payload."""
        seq, offset = decode_uvarint(payload)
        nonce, offset = decode_uvarint(payload, offset)
        port, offset = decode_uvarint(payload, offset)
        psig, offset = _take(payload, offset, SIGNATURE_SIZE)
        _expect_end(payload, offset)
        return cls(seq, nonce, port, psig)

    def verify(self, node: bytes, parent: bytes) -> bool:
        """Tell whether ``parent`` signed this for ``node``, the requester."""
        return verify(parent, tree_signed_bytes(node, parent, self.seq, self.nonce, self.port), self.psig)


@dataclass(frozen=True, slots=True)
class Announce:
    """Node ``key`` has ``parent``, which reaches it through ``port``; signed by both."""

    key: bytes
    parent: bytes
    seq: int
    nonce: int
    port: int
    psig: bytes
    sig: bytes

    def encode(self) -> bytes:
        """Return the payload of the frame."""
        signed = tree_signed_bytes(_key(self.key), _key(self.parent), self.seq, self.nonce, self.port)
        return b"".join((signed, _signature(self.psig), _signature(self.sig)))

    @classmethod
    def decode(cls, payload: bytes) -> Announce:
        """Read a frame's payload."""
        key, offset = _take(payload, 0, PUBLIC_KEY_SIZE)
        parent, offset = _take(payload, offset, PUBLIC_KEY_SIZE)
        seq, offset = decode_uvarint(payload, offset)
        nonce, offset = decode_uvarint(payload, offset)
        port, offset = decode_uvarint(payload, offset)
        psig, offset = _take(payload, offset, SIGNATURE_SIZE)
        sig, offset = _take(payload, offset, SIGNATURE_SIZE)
        _expect_end(payload, offset)
        return cls(key, parent, seq, nonce, port, psig, sig)

    def signed_bytes(self) -> bytes:
        """Return what both signatures cover."""
        return tree_signed_bytes(self.key, self.parent, self.seq, self.nonce, self.port)

    def verify(self) -> bool:
        """Tell whether both signatures are good; port 0 is for roots only, which are their own parents."""
        if not self.port and self.key != self.parent:
            return False
        signed = self.signed_bytes()
        return verify(self.key, signed, self.sig) and verify(self.parent, signed, self.psig)


@dataclass(frozen=True, slots=True)
class BloomFilter:
    """The keys that may be found behind a link: 128 words of 64 bits. Words of all zeros or all ones are not sent."""

    words: tuple[int, ...]

    def encode(self) -> bytes:
        """Return the payload of the frame: two flag fields (all zero, all ones), then the other words."""
        if len(self.words) != BLOOM_WORDS:
            raise ValueError(f"a bloom filter has {BLOOM_WORDS} words, not {len(self.words)}")
        zeros = ones = 0
        listed = []
        for word in self.words:
            zeros <<= 1
            ones <<= 1
            if not word:
                zeros |= 1
            elif word == _WORD_ONES:
                ones |= 1
            elif 0 < word < _WORD_ONES:
                listed.append(word)
            else:
                raise ValueError(f"{word} is no unsigned 64-bit number")
        flags = zeros.to_bytes(_FLAGS_SIZE, "big") + ones.to_bytes(_FLAGS_SIZE, "big")
        return flags + struct.pack(f">{len(listed)}Q", *listed)

    @classmethod
    def decode(cls, payload: bytes) -> BloomFilter:
        """Read a frame's payload."""
        flags0, offset = _take(payload, 0, _FLAGS_SIZE)
        flags1, offset = _take(payload, offset, _FLAGS_SIZE)
        zeros = int.from_bytes(flags0, "big")
        ones = int.from_bytes(flags1, "big")
        if zeros & ones:
            raise DecodeError("bloom filter word both all zero and all ones")
        count = BLOOM_WORDS - (zeros | ones).bit_count()
        if len(payload) != offset + 8 * count:
            raise DecodeError(f"bloom filter of {len(payload)} bytes, its flags ask for {offset + 8 * count}")
        listed = iter(struct.unpack_from(f">{count}Q", payload, offset))
        words = []
        for shift in range(BLOOM_WORDS - 1, -1, -1):
            if zeros >> shift & 1:
                words.append(0)
            elif ones >> shift & 1:
                words.append(_WORD_ONES)
            else:
                words.append(next(listed))
        return cls(tuple(words))


@dataclass(frozen=True, slots=True)
class PathLookup:
    """``source``, whose coordinates are ``from_path``, looks for the node whose key has the x-key of ``dest``."""

    source: bytes
    dest: bytes
    from_path: tuple[int, ...]

    def encode(self) -> bytes:
        """Return the payload of the frame."""
        return b"".join((_key(self.source), _key(self.dest), encode_path(self.from_path)))

    @classmethod
    def decode(cls, payload: bytes) -> PathLookup:
        """Read a frame's payload."""
        source, offset = _take(payload, 0, PUBLIC_KEY_SIZE)
        dest, offset = _take(payload, offset, PUBLIC_KEY_SIZE)
        from_path, offset = decode_path(payload, offset)
        _expect_end(payload, offset)
        return cls(source, dest, from_path)


@dataclass(frozen=True, slots=True)
class PathNotify:
    """The answer to a PathLookup: routed along ``path`` to ``dest``, it tells the coordinates of ``source``."""

    path: tuple[int, ...]
    watermark: int
    source: bytes
    dest: bytes
    info_seq: int
    info_path: tuple[int, ...]
    info_sig: bytes

    def encode(self) -> bytes:
        """Return the payload of the frame."""
        return b"".join(
            (
                encode_path(self.path),
                encode_uvarint(self.watermark),
                _key(self.source),
                _key(self.dest),
                self.signed_bytes(),
                _signature(self.info_sig),
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> PathNotify:
        """Read a frame's payload."""
        path, offset = decode_path(payload)
        watermark, offset = decode_uvarint(payload, offset)
        source, offset = _take(payload, offset, PUBLIC_KEY_SIZE)
        dest, offset = _take(payload, offset, PUBLIC_KEY_SIZE)
        info_seq, offset = decode_uvarint(payload, offset)
        info_path, offset = decode_path(payload, offset)
        info_sig, offset = _take(payload, offset, SIGNATURE_SIZE)
        _expect_end(payload, offset)
        return cls(path, watermark, source, dest, info_seq, info_path, info_sig)

    def signed_bytes(self) -> bytes:
        """Return what ``info_sig`` covers: the coordinates of ``source`` and their number, nothing of the outside."""
        return path_info_signed_bytes(self.info_seq, self.info_path)

    def verify(self) -> bool:
        """Tell whether ``source`` signed the coordinates."""
        return verify(self.source, self.signed_bytes(), self.info_sig)


@dataclass(frozen=True, slots=True)
class PathBroken:
    """Traffic from ``source`` to ``dest`` got stuck; routed along ``path`` back to ``source``."""

    path: tuple[int, ...]
    watermark: int
    source: bytes
    dest: bytes

    def encode(self) -> bytes:
        """Return the payload of the frame."""
        return b"".join((encode_path(self.path), encode_uvarint(self.watermark), _key(self.source), _key(self.dest)))

    @classmethod
    def decode(cls, payload: bytes) -> PathBroken:
        """Read a frame's payload."""
        path, offset = decode_path(payload)
        watermark, offset = decode_uvarint(payload, offset)
        source, offset = _take(payload, offset, PUBLIC_KEY_SIZE)
        dest, offset = _take(payload, offset, PUBLIC_KEY_SIZE)
        _expect_end(payload, offset)
        return cls(path, watermark, source, dest)


@dataclass(frozen=True, slots=True)
class Traffic:
    """A session-layer message from ``source`` at ``from_path`` to ``dest`` at ``path``."""

    path: tuple[int, ...]
    from_path: tuple[int, ...]
    source: bytes
    dest: bytes
    watermark: int
    payload: bytes

    def encode(self) -> bytes:
        """Return the payload of the frame."""
        return b"".join(
            (
                encode_path(self.path),
                encode_path(self.from_path),
                _key(self.source),
                _key(self.dest),
                encode_uvarint(self.watermark),
                self.payload,
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> Traffic:
        """Read a frame's payload; whatever follows the watermark is the message."""
        path, offset = decode_path(payload)
        from_path, offset = decode_path(payload, offset)
        keys_end = offset + 2 * PUBLIC_KEY_SIZE
        watermark, body = decode_uvarint(payload, keys_end)
        middle = offset + PUBLIC_KEY_SIZE
        return cls(path, from_path, payload[offset:middle], payload[middle:keys_end], watermark, payload[body:])


def _take(payload: bytes, offset: int, size: int) -> tuple[bytes, int]:
    end = offset + size
    if end > len(payload):
        raise DecodeError("packet cut short")
    return payload[offset:end], end


def _expect_end(payload: bytes, offset: int) -> None:
    if offset != len(payload):
        raise DecodeError(f"{len(payload) - offset} bytes left over after the packet")


def _key(key: bytes) -> bytes:
    if len(key) != PUBLIC_KEY_SIZE:
        raise ValueError(f"a public key has {PUBLIC_KEY_SIZE} bytes, not {len(key)}")
    return key


def _signature(signature: bytes) -> bytes:
    if len(signature) != SIGNATURE_SIZE:
        raise ValueError(f"a signature has {SIGNATURE_SIZE} bytes, not {len(signature)}")
    return signature
