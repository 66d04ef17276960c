"""The commands that ask other nodes: ``getNodeInfo`` and ``debug_remoteGet*`` (protocol sections 10 and 13.3).

What another node answers is its own claim. It is passed on as it was spelt, if it is JSON or keys at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from yggpy.address import Address
from yggpy.admin.commands import AdminNode, Arguments, Command, CommandError
from yggpy.admin.jsontext import EncodableJson, RawJson
from yggpy.inspection import NoAnswerError
from yggpy.keys import PUBLIC_KEY_SIZE
from yggpy.questions import Question
from yggpy.wire.errors import DecodeError
from yggpy.wire.inner import check_json, decode_keys

__all__ = ["read_public_key", "remote_commands"]

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_LATIN_PRINTABLE = (range(0x20, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100))


def remote_commands(node: AdminNode) -> list[Command]:
    """Return the commands by which ``node`` asks others."""

    async def get_node_info(arguments: Arguments) -> EncodableJson:
        text = arguments["key"]
        if not text:
            raise CommandError("no remote public key supplied")
        try:
            key = read_public_key(text)
        except _HexError as error:
            raise CommandError(f"failed to decode public key: {error}") from None
        try:
            info = await node.ask(key, Question.NODE_INFO)
        except NoAnswerError:
            raise CommandError("timed out waiting for response") from None
        return {key.hex(): _json(info)}

    return [
        Command(
            "getNodeInfo",
            "Request nodeinfo from a remote node by its public key",
            get_node_info,
            ("key",),
            request_type="core.GetNodeInfoRequest",
        ),
        _debug_command(node, "Self", Question.SELF, _json),
        _debug_command(node, "Peers", Question.PEERS, _keys),
        _debug_command(node, "Tree", Question.TREE, _keys),
    ]


def _debug_command(node: AdminNode, what: str, question: Question, shown: Callable[[bytes], EncodableJson]) -> Command:
    async def ask(arguments: Arguments) -> EncodableJson:
        key = read_public_key(arguments["key"])
        try:
            answer = await node.ask(key, question)
        except NoAnswerError:
            raise CommandError("timeout") from None
        return {str(Address.for_key(key)): shown(answer)}

    handler: Callable[[Arguments], Awaitable[EncodableJson]] = ask
    name = f"debug_remoteGet{what}"
    return Command(name, "Debug use only", handler, ("key",), request_type=f"core.DebugGet{what}Request")


def _json(answer: bytes) -> EncodableJson:
    if not answer:
        return None
    try:
        return RawJson(check_json(answer))
    except DecodeError as error:
        raise CommandError(f"failed to marshal response: {error}") from None


def _keys(answer: bytes) -> EncodableJson:
    keys = [key.hex() for key in decode_keys(answer)]
    return {"keys": keys} if keys else {}


class _HexError(CommandError):
    """Not hexadecimal; the text is Go's."""


def read_public_key(text: str) -> bytes:
    """Return the public key that ``text`` gives in hexadecimal digits. Raises ``CommandError`` in Go's words."""
    data = text.encode()
    for byte in data:
        if chr(byte) not in _HEX_DIGITS:
            shown = f" '{chr(byte)}'" if any(byte in printable for printable in _LATIN_PRINTABLE) else ""
            raise _HexError(f"encoding/hex: invalid byte: U+{byte:04X}{shown}")
    if len(data) % 2:
        raise _HexError("encoding/hex: odd length hex string")
    if len(data) != 2 * PUBLIC_KEY_SIZE:
        raise CommandError("invalid public key length")
    return bytes.fromhex(text)
