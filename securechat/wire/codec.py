"""One line of JSON and one message, each way; the only place that knows the bytes."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from securechat.errors import BAD_FIELD, BAD_PACKET, EMPTY_LINE, UNKNOWN_COMMAND, Code, ProtocolViolation, Refused
from securechat.wire import limits
from securechat.wire.messages import (
    EVENTS,
    REPLIES,
    REQUESTS,
    AnyEvent,
    AnyRequest,
    Failed,
    Package,
    Packet,
    Reply,
    Request,
    command_of,
)

_encode = msgspec.json.Encoder().encode
_decode_request = msgspec.json.Decoder(AnyRequest).decode
_decode_event = msgspec.json.Decoder(AnyEvent).decode
_COMMANDS: Final = frozenset(command_of(request) for request in REQUESTS)

# Possessive, and a string need not end: so nothing is ever looked at twice, whatever a peer sends.
_NOT_BRACKETS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[^\[\]{}"]++', re.DOTALL)
_PAIR: Final = re.compile(rb"\[\]|\{\}")


class _Head(msgspec.Struct):
    """The fields that say what a line is, where it does not decode as what it should be."""

    cmd: Any = None
    id: Any = None
    event: Any = None
    status: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode


def too_deep(line: bytes) -> bool:
    """Whether JSON is nested deeper than MAX_DEPTH; linear, and never recursive.

    A count of the opening brackets settles nearly every packet at the speed of a scan. Otherwise strings are dropped
    and innermost pairs taken away, MAX_DEPTH times: what is left then was nested deeper (or does not match).
    """
    if line.count(b"{") + line.count(b"[") <= limits.MAX_DEPTH:
        return False
    brackets = _NOT_BRACKETS.sub(b"", line)
    for _ in range(limits.MAX_DEPTH):
        brackets = _PAIR.sub(b"", brackets)
    return bool(brackets)


def decode_request(line: bytes) -> AnyRequest:
    """One line from a client.

    Raises:
        ProtocolViolation: not a JSON object in UTF-8 within the limits.
        Refused: `unknown_command`, or `bad_field` with the place of the first wrong one; `refused_id` says whose.
    """
    if not line:
        raise ProtocolViolation(EMPTY_LINE)
    try:
        if too_deep(line):
            raise ProtocolViolation(BAD_PACKET, why=f"nested deeper than {limits.MAX_DEPTH}")
        request: AnyRequest = _decode_request(line)
        return request
    except msgspec.ValidationError as error:
        raise _explain(line, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolViolation(BAD_PACKET, why=_plain(error)) from None


def _explain(line: bytes, error: msgspec.ValidationError) -> Refused:
    """Why a well-formed JSON line is not a request we know."""
    try:
        head = _decode_head(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ProtocolViolation(BAD_PACKET, why="not a JSON object")
    if head.cmd is None:
        return ProtocolViolation(BAD_PACKET, why="no cmd")
    refusal = Refused(BAD_FIELD, why=_plain(error))
    if not isinstance(head.cmd, str) or head.cmd not in _COMMANDS:
        refusal = Refused(UNKNOWN_COMMAND)
    refusal.data["id"] = head.id if _is_request_id(head.id) else None
    return refusal


def _is_request_id(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return (isinstance(value, int) and 0 <= value < 2**53) or (isinstance(value, str) and len(value) <= 64)


def _plain(error: Exception) -> str:
    """An error text of the decoder, without what the peer wrote beyond a key's name, printable and short."""
    return "".join(c if c.isprintable() else "?" for c in str(error).replace("`", ""))[:160]


def encode(packet: Packet) -> bytes:
    """A packet as one line, newline included."""
    return _encode(packet) + b"\n"


_FAILED_FIELDS: Final = ("retry_after", "expected", "head", "version", "users", "proof")


def encode_refusal(request_id: Any, refusal: Refused) -> bytes:
    """The reply to a request that is refused."""
    data = refusal.data
    fields: dict[str, Any] = {name: data[name] for name in _FAILED_FIELDS if name in data}
    return encode(Failed(id=request_id, code=refusal.code.name, msg=str(refusal), **fields))


def internal_error(request_id: Any, code: Code) -> bytes:
    """The reply to a request that failed through the server's own fault; says nothing of its insides."""
    return encode(Failed(id=request_id, code=code.name, msg=code.text))


# --- the message event, in two parts: encoded once for all readers, and the reader's own entry -----------------------


def message_prefix(
    *,
    room: str,
    seq: int,
    sender: str,
    device: str,
    mid: str,
    ts: int,
    events: int,
    shared: bytes,
    to: str | None = None,
) -> bytes:
    """What all readers of a message get alike: everything but its tail (`own_tail`, `NO_TAIL`, `SAME_TAIL`).

    Args:
        shared: `shared_part` of the package.
        to: whom a private message is for.
    """
    # Every value is checked by pattern where it came in, so none needs escaping.
    private = b"" if to is None else b'"to":"%b",' % to.encode()
    return (
        b'{"event":"message","room":"%b","seq":%d,"sender":"%b","device":"%b",%b"mid":"%b","ts":%d,"events":%d,"package":%b'
    ) % (
        room.encode(),
        seq,
        sender.encode(),
        device.encode(),
        private,
        mid.encode(),
        ts,
        events,
        shared[:-1],
    )


NO_TAIL: Final = b',"kids":{},"encrypted_keys":{}}}'  # of a v1 package for somebody it was not sealed for
SAME_TAIL: Final = b"}}"  # of a v2 package, for everybody


def own_tail(user: str, kid: str, wrapped: bytes) -> bytes:
    """The rest of a message event for one reader: the entry sealed for this user, in base64."""
    own = _encode(wrapped)  # a JSON string of base64
    name = user.encode()
    return b',"kids":{"%b":"%b"},"encrypted_keys":{"%b":%b}}}' % (name, kid.encode(), name, own)


def shared_part(package: Package) -> bytes:
    """The part of a package that all readers get alike, as a JSON object: all but `encrypted_keys` and `kids`."""
    if package.ct:
        return b'{"hdr":%b,"ct":%b,"sig":%b}' % (_encode(package.hdr), _encode(package.ct), _encode(package.sig))
    return b'{"encrypted_message":"%b","hdr":%b,"bind":%b,"sig":%b}' % (
        package.encrypted_message.encode(),
        _encode(package.hdr),
        _encode(package.bind),
        _encode(package.sig),
    )


def history_reply(head: Reply, messages: list[bytes]) -> bytes:
    """A `HistoryOk` whose messages are already encoded; one line, newline included.

    Args:
        head: the reply with an empty `messages`.
        messages: each `message_prefix` + tail.
    """
    encoded = _encode(head)
    return encoded.replace(b'"messages":[]', b'"messages":[' + b",".join(messages) + b"]", 1) + b"\n"


# --- the client's side ------------------------------------------------------------------------------------------------

_reply_decoders: Final[dict[type[Request], msgspec.json.Decoder[Any]]] = {
    request: msgspec.json.Decoder(reply | Failed) for request, reply in REPLIES.items()
}


class Heading(msgspec.Struct, frozen=True):
    """What a line from the server is: an event by name, or the reply to request `id`."""

    event: str | None = None
    id: int | None = None


_decode_heading = msgspec.json.Decoder(Heading).decode


def _wrap(decode: Any, line: bytes) -> Any:
    try:
        if too_deep(line):
            raise ProtocolViolation(BAD_PACKET, why=f"nested deeper than {limits.MAX_DEPTH}")
        return decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolViolation(BAD_PACKET, why=_plain(error)) from None


def decode_heading(line: bytes) -> Heading:
    """Tells replies from events. Raises ProtocolViolation where a line from the server is neither."""
    heading: Heading = _wrap(_decode_heading, line)
    return heading


def decode_event(line: bytes) -> AnyEvent | None:
    """An event, or None where a newer server sends a kind this client does not know."""
    heading = decode_heading(line)
    if heading.event not in _EVENT_NAMES:
        return None
    event: AnyEvent = _wrap(_decode_event, line)
    return event


_EVENT_NAMES: Final = frozenset(str(event.__struct_config__.tag) for event in EVENTS)


def decode_reply(line: bytes, request: type[Request]) -> Any:
    """The reply to a request: its good reply's struct, or `Failed`. Raises ProtocolViolation."""
    return _wrap(_reply_decoders[request].decode, line)
