"""The documents and the code, held to each other in both directions; PacketDiagram.md above all."""

from __future__ import annotations

import ast
import base64
import hashlib
import hmac
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import securechat
from securechat import link, tap
from securechat.client.inbox import delivered
from securechat.crypto import envelope, identity, passwords, primitives, reading, roomlog
from securechat.crypto.findings import Finding
from securechat.crypto.identity import DeviceCertificate, DeviceList, verify_bundle
from securechat.errors import CODES, Exit
from securechat.server import settings
from securechat.server.session import RULES, State
from securechat.wire import codec, limits
from securechat.wire import messages as m
from tests import packet_examples
from tests.unit import test_layers

PACKAGE: Final = Path(securechat.__file__).parent
ROOT: Final = packet_examples.DOCUMENT.parent
PACKETS: Final = packet_examples.DOCUMENT.read_text(encoding="utf-8")


# --- reading documents ------------------------------------------------------------------------------------------------


def sections(text: str) -> dict[str, str]:
    """What follows each heading, of whatever level, up to the next one."""
    outside = re.sub(r"(?m)^```.*?^```$", lambda block: re.sub(r"(?m)^#", " #", block[0]), text, flags=re.DOTALL)
    parts = re.split(r"(?m)^#{1,6} (.+)$", outside)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str, *columns: str) -> list[list[str]]:
    """The cells of every table with these columns."""
    found: list[list[str]] = []
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    for after in text.split(head)[1:]:
        for line in after.splitlines():
            if not line.startswith("|"):
                break
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            found.append([cell.replace("\\|", "|").strip() for cell in cells])
    return found


def document(name: str) -> str:
    """One of the other papers."""
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def values() -> Mapping[str, str]:
    """The long values, by the name that stands for them in the examples."""
    found = packet_examples.written(PACKETS).items()
    return {name.removeprefix("value-"): text.replace("\n", "") for name, text in found if name.startswith("value-")}


def example_lines() -> Iterator[tuple[str, str, bytes]]:
    """Each line of the examples: its block, whose it is, and its bytes with all values in their places."""
    for name, text in packet_examples.written(PACKETS).items():
        for who, line in re.findall(r"(?m)^([CS]): (.*)$", text):
            yield name, who, re.sub(r"<([\w-]+)>", lambda found: values()[found[1]], line).encode()


def facts(name: str) -> dict[str, str]:
    """A table of worked values, by what they are called; wrapped lines are joined."""
    found: dict[str, str] = {}
    key = ""
    for line in packet_examples.written(PACKETS)[name].splitlines():
        if " = " in line:
            key, _, value = line.partition(" = ")
            key = key.strip()
            found[key] = value
        else:
            found[key] += line.lstrip()
    return found


# --- how the document writes what a struct says -----------------------------------------------------------------------

ALIASES: Final = {
    name: alias
    for name, alias in vars(m).items()
    if typing.get_origin(alias) is typing.Annotated
    and alias not in (m.SignedHeader, m.EventBytes, m.NoteBytes, m.Ciphertext)
}
JSON_NAMES: Final = {str: "string", int: "integer", bool: "boolean", float: "number", bytes: "base64"}
REPLY_NAMES: Final = {m.Reply: "Ok", m.Failed: "error"}
TOP: Final = "2^53 \N{MINUS SIGN} 1"


def described(kind: Any) -> str:
    """A type as the document writes it."""
    if kind in (m.RequestId, m.Place):
        return "RequestId" if kind == m.RequestId else "Place"
    for name, alias in ALIASES.items():
        if kind == alias:
            return name
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        base, meta = arguments
        if base is int:
            return f"integer {meta.ge} to {meta.le}"
        if base is bytes:
            least = "at most" if meta.min_length is None else f"{meta.min_length} to"
            return f"base64 of {least} {meta.max_length} bytes"
        least, most = meta.min_length, meta.max_length
        return f"{described(base)}, " + (f"at most {most}" if least is None else f"{least} to {most}")
    if origin in (types.UnionType, typing.Union):
        (single,) = [part for part in arguments if part not in (type(None), msgspec.UnsetType)]
        return described(single)
    if origin is tuple:
        return f"list of {described(arguments[0])}"
    if origin is dict:
        return f"map of {described(arguments[0])} to {described(arguments[1])}"
    if kind in m.EVENTS:
        return f"event `{kind.__struct_config__.tag}`"
    return JSON_NAMES.get(kind) or str(kind.__name__)


def default_of(field: Any) -> str:
    """What an absent field means, as the document writes it."""
    if field.required:
        return "required"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "absent" if default in (None, msgspec.UNSET, b"") else json.dumps(default)


def fields_of(struct: Any) -> list[list[str]]:
    """The rows of a struct's table, without their meaning; the `id` of requests and replies is told once for all."""
    common = {"id"} if issubclass(struct, (m.Request, m.Reply, m.Failed)) else set()
    return [
        [field.encode_name, described(field.type), default_of(field)]
        for field in msgspec.structs.fields(struct)
        if field.name not in common
    ]


def packets() -> dict[str, Any]:
    """Every struct by its heading."""
    structs = {value for value in vars(m).values() if isinstance(value, type) and issubclass(value, m.Packet)}
    found = {f"Request `{m.command_of(request)}`": request for request in m.REQUESTS}
    replies = {*m.REPLIES.values(), m.Failed}
    found |= {f"Reply `{REPLY_NAMES.get(reply, reply.__name__)}`": reply for reply in replies}
    found |= {f"Event `{event.__struct_config__.tag}`": event for event in m.EVENTS}
    parts = structs - set(found.values()) - {m.Packet, m.Request, m.Reply, m.Event}
    return found | {f"Part `{part.__name__}`": part for part in parts}


class PacketTests(SynchronousTestCase):
    """Tests for the tables of the packets."""

    def setUp(self) -> None:
        self.sections = sections(PACKETS)
        self.packets = packets()

    def test_every_packet(self) -> None:
        """Each request, reply, event and part has a heading, and each such heading a struct."""
        headings = [name for name in self.sections if re.match(r"(Request|Reply|Event|Part) `", name)]
        self.assertEqual(sorted(self.packets), sorted(headings))

    def test_every_field(self) -> None:
        """Each field has its row with its type and default, in order, and each row is a field's."""
        for name, struct in self.packets.items():
            table = rows(self.sections[name], "field", "type", "default", "meaning")
            self.assertEqual(fields_of(struct), [row[:3] for row in table], name)
            self.assertEqual([], [row for row in table if not row[3]], name)

    def test_rules(self) -> None:
        """Each request has its state, its answer, and errors that exist; no code is told of nowhere."""
        states = {
            frozenset({State.GREETED}): "greeted",
            frozenset({State.NO_DEVICE, State.READY}): "account",
            frozenset({State.READY}): "ready",
            frozenset(State): "any",
        }
        told: set[str] = set()
        for request, (allowed, _) in RULES.items():
            name = m.command_of(request)
            line = re.search(
                r"(?ms)^- \*\*State\*\* (\w+) · \*\*Answer\*\* `(\w+)` · \*\*Errors\*\* (.+?)\n\n",
                self.sections[f"Request `{name}`"],
            )
            assert line is not None, name
            reply = m.REPLIES[request]
            self.assertEqual((states[allowed], REPLY_NAMES.get(reply, reply.__name__)), (line[1], line[2]), name)
            codes = set(re.findall(r"`(\w+)`", line[3]))
            self.assertEqual(set(), codes - CODES.keys(), name)
            told |= codes
        elsewhere = {name for name, code in CODES.items() if code.closes} | {"unknown_command", "too_many_devices"}
        elsewhere |= set(re.findall(r"`(\w+)`", self.sections["Requests"]))
        self.assertEqual(set(), CODES.keys() - told - elsewhere)

    def test_types(self) -> None:
        """Each named type has its row with its JSON and its rule, and each row is a type's."""
        table = {row[0]: row[1:] for row in rows(self.sections["Types"], "type", "JSON", "rule")}
        wanted: dict[str, list[str]] = {
            "RequestId": ["integer or string", f"0 to {TOP}, or at most 64 characters"],
            "Place": ["array of two", "a Count and a Hex256"],
        }
        self.assertEqual((m.Count, m.Hex256), typing.get_args(m.Place))
        for name, alias in ALIASES.items():
            if name == described(alias):  # not a second name for the same
                base, meta = typing.get_args(alias)
                wanted[name] = ["integer" if base is int else "string", self.rule(base, meta)]
        integer, string, _ = typing.get_args(m.RequestId)
        self.assertEqual((2**53 - 1, 64), (typing.get_args(integer)[1].le, typing.get_args(string)[1].max_length))
        self.assertEqual(wanted, {name: [json_name, rule.split(";")[0]] for name, (json_name, rule) in table.items()})

    def rule(self, base: Any, meta: Any) -> str:
        """What values a type takes, as the document writes it."""
        if base is int:
            self.assertEqual(2**53 - 1, meta.le)
            return f"{meta.ge} to {TOP}"
        if base is bytes:
            self.assertEqual(meta.min_length, meta.max_length)
            return f"base64 of {meta.min_length} bytes"
        pattern = f"`{meta.pattern.removesuffix(chr(92) + 'Z')}$`"
        return pattern if meta.max_length is None else f"{pattern}, {meta.min_length} to {meta.max_length} characters"

    def test_reasons(self) -> None:
        """The reasons of `bye` are those the server says."""
        closing = {name for name, code in CODES.items() if code.closes and name != "internal"}
        found = re.findall(r"(?m)^\| `(\w+)` \|", self.sections["Event `bye`"])
        self.assertEqual(sorted(said_by_server() - closing), sorted(found))

    def test_events_known(self) -> None:
        """The client decodes every event there is."""
        for event in m.EVENTS:
            self.assertIn(event.__struct_config__.tag, codec._EVENT_NAMES)


def said_by_server() -> set[str]:
    """The reasons of good-byes, as literals in the server's source."""
    reasons: set[str] = set()
    for path in sorted((PACKAGE / "server").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                name = getattr(call.func, "attr", "")
                named = {keyword.arg: keyword.value for keyword in call.keywords}
                reasons |= literals(named.get("reason")) if name == "Bye" else set()
                reasons |= literals(call.args[0]) if name == "end" and call.args else set()
    return reasons


def literals(node: ast.AST | None) -> set[str]:
    """The string, if it is one."""
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


class SignedTests(SynchronousTestCase):
    """Tests for the tables of what is signed, and of what it means."""

    def setUp(self) -> None:
        self.sections = sections(PACKETS)

    def keys_in(self, heading: str) -> list[str]:
        """The keys of an object, as its table has them."""
        return [row[0] for row in rows(self.sections[heading], "key", "type", "value")]

    def test_keys(self) -> None:
        """Certificate, list and header have the keys of their tables, in that order."""
        for heading, kind in (
            ("Device certificate", DeviceCertificate),
            ("Device list", DeviceList),
            ("Header", envelope.Header),
        ):
            self.assertEqual(keys_of(kind), self.keys_in(heading), heading)

    def test_events(self) -> None:
        """Each act has its row: its kind, its keys in their order, and who may; each key has one too."""
        heading = "Events of a room"
        common = keys_of(roomlog.RoomEvent)
        wanted, further = [], set()
        for kind in typing.get_args(roomlog.AnyEvent):
            chained = {"own": "membership", "ctl": "control"}
            keys = keys_of(kind)[len(common) :]
            self.assertEqual(common, keys_of(kind)[: len(common)])
            sort = chained.get(keys[0], "")
            own = keys[1:] if sort else keys
            further |= set(own)
            wanted.append([f"`{tag_of(kind)}`", sort, " ".join(f"`{key}`" for key in own), *who_may(kind)])
        columns = "`t`", "kind", "further keys", "least role", "above", "what must hold, and what it does"
        self.assertEqual(wanted, [row[:5] for row in rows(self.sections[heading], *columns)])
        found = self.keys_in(heading)
        self.assertEqual(common, found[: len(common)])
        self.assertEqual(further, set(found[len(common) :]))

    def test_findings(self) -> None:
        """Each finding has its row, in the order of the checks, and each row is one's."""
        yes = {True: "yes", False: "no"}
        wanted = [[f"`{one.name}`", yes[one.shown], yes[one.alarm], one.value.text, one.value.cure] for one in Finding]
        columns = "finding", "text shown", "sending stops", "what is said", "and what to do"
        self.assertEqual(wanted, rows(self.sections["Judging a message"], *columns))

    def test_every_finding_has_its_check(self) -> None:
        """The numbered checks name every finding."""
        checks = self.sections["Judging a message"].partition("| finding |")[0]
        self.assertEqual([], [one.name for one in Finding if not re.search(rf"\b{one.name}\b", checks)])


def keys_of(kind: Any) -> list[str]:
    """The keys of a signed object, in their order."""
    return ["t", *(field.encode_name for field in msgspec.structs.fields(kind))]


def tag_of(kind: Any) -> str:
    """The value of `t`."""
    return str(kind.__struct_config__.tag)


def who_may(kind: Any) -> tuple[str, str]:
    """What an act asks of its author's role, as the document writes it."""
    right = roomlog.RIGHTS.get(kind)
    if right is None:
        return "none", "no"
    usual, narrow = (right.least(roomlog.Policy("open", who, 1)).label for who in ("member", "admin"))
    role = usual if usual == narrow else f"{usual}; {narrow} where the policy says so"
    return role, "yes" if right.above else "no"


class TableTests(SynchronousTestCase):
    """Tests for the tables of errors, limits, labels and costs."""

    def setUp(self) -> None:
        self.sections = sections(PACKETS)

    def test_errors(self) -> None:
        """Each code has its row, with what follows from it and its text, and each row is a code's."""
        yes = {True: "yes", False: "no"}
        wanted = [
            [f"`{code.name}`", yes[code.closes], yes[code.stored_nothing], str(int(code.exit)), code.text]
            for code in CODES.values()
        ]
        columns = "code", "closes", "nothing stored", "exit", "text", "meaning"
        found = [row[:5] for row in rows(self.sections["Errors"], *columns)]
        self.assertEqual(sorted(wanted), sorted(found))

    def test_exits(self) -> None:
        """Each exit status has its row, and each row is one's."""
        table = rows(self.sections["Errors"], "exit", "of this project's client")
        self.assertEqual([str(int(status)) for status in Exit], [row[0] for row in table])

    def test_limits(self) -> None:
        """Each limit has its row with its value, and each row is a limit's."""
        wanted = [[name, f"{value:g}" if isinstance(value, float) else str(value)] for name, value in constants()]
        self.assertEqual(wanted, [row[:2] for row in rows(self.sections["Limits"], "name", "value", "of")])

    def test_labels(self) -> None:
        """Each label of the cryptography has its row under its function, and each row is a label in use."""
        wanted = {
            (function, label)
            for path in (PACKAGE / "crypto").glob("*.py")
            for function, label in labels(ast.parse(path.read_text(encoding="utf-8")))
        }
        found = {(row[0], row[1].strip("`")) for row in rows(self.sections["Notation"], "function", "label", "for")}
        self.assertEqual(wanted, found)

    def test_argon2(self) -> None:
        """The costs of a password are those of the code."""
        table = dict(rows(self.sections["Passwords"], "Argon2id", "value"))
        found = [int(table[name].split()[0]) for name in ("iterations", "memory", "lanes", "output", "salt")]
        costs = [passwords._ITERATIONS, passwords._MEMORY_KIB, passwords._LANES, 32, passwords.SALT_BYTES]
        self.assertEqual(costs, found)

    def test_names(self) -> None:
        """Prefix, exporter's label, RSA parameters and the point of order 8 are those of the code."""
        for text in (
            f'"{primitives.PREFIX.decode()}" ‖ label',
            f"label `{link.EXPORTER_LABEL.decode()}`",
            f"RSA, {primitives.RSA_BITS} bits, e = {primitives.RSA_EXPONENT}",
            f"Y = {primitives._Y8:064x}",
            f"port {link.DEFAULT_PORT}",
        ):
            self.assertIn(text, PACKETS)

    def test_connect_line(self) -> None:
        """The fields of a connect line are those the code reads."""
        written = re.search(r"(?m)^securechat://\S+$", self.sections["Connect line"])
        assert written is not None
        text = written[0]
        for name, value in {
            "PORT": "12345",
            "SERVER-ID": "i" * 43,
            "ROOM-ID": "a" * 64,
            "USER:IDENTITY": f"bob:{'k' * 43}",
        }.items():
            text = text.replace(name, value)
        line = link.ConnectLine.parse(text)
        self.assertEqual(("HOST", 12345, "i" * 43), (line.host.upper(), line.port, line.id))
        self.assertEqual(
            ("CODE", "ROOM", "a" * 64, f"bob:{'k' * 43}"), (line.invite, line.room, line.rid, line.inviter)
        )


def constants() -> list[tuple[str, float]]:
    """The limits, in their order; those of what is signed last."""
    signed = ((roomlog, "BACK MAX_TOPIC MAX_REASON"), (identity, "MAX_KIDS"), (reading, "DELAY"))
    return [
        *((name, value) for name, value in vars(limits).items() if name.isupper()),
        *((name, getattr(module, name)) for module, names in signed for name in names.split()),
    ]


def labels(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Function and label of every call that has a label written out."""
    names = {"sign": "Sign", "verify": "Sign", "digest": "H", "expand": "Expand"}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in names:
            place = 0 if call.func.attr == "digest" else 1  # type: ignore[attr-defined]
            for label in literals(call.args[place] if len(call.args) > place else None):
                yield names[call.func.attr], label  # type: ignore[attr-defined]


class ExampleTests(SynchronousTestCase):
    """Tests for the worked examples."""

    maxDiff = None

    def test_written(self) -> None:
        """Every example is what the code makes now: run ``python -m tests.packet_examples`` after a change."""
        made, written = packet_examples.blocks(), packet_examples.written(PACKETS)
        self.assertEqual(sorted(made), sorted(written))
        self.assertEqual([], [name for name in made if made[name] != written[name]])

    def test_lines(self) -> None:
        """Every line decodes to a packet that encodes to the same JSON, but for those that show a refusal of it."""
        asked: m.AnyRequest | None = None
        for name, who, line in example_lines():
            if who == "C":
                if name in ("error-bad-field", "error-unknown-command", "error-bad-packet"):
                    asked = None
                    continue
                asked = decoded = codec.decode_request(line)
            elif b'"event":' in line[:9]:
                decoded = codec.decode_event(line)
            else:
                decoded = codec.decode_reply(line, m.Ping if asked is None else type(asked))
                self.assertTrue(asked is None or asked.id == decoded.id, name)
            self.assertEqual(json.loads(line), json.loads(codec.encode(decoded)), name)

    def test_every_packet_is_shown(self) -> None:
        """Every request, reply, field of a refusal and event has an example."""
        shown: set[str] = set()
        for _, who, line in example_lines():
            packet = json.loads(line)
            if who == "S":
                shown |= {f"Event `{packet['event']}`"} if "event" in packet else set(packet) - {"id"}
            elif isinstance(packet, dict):
                shown.add(f"Request `{packet['cmd']}`")
        wanted = {name for name in packets() if name.startswith(("Request", "Event"))}
        self.assertEqual(set(), (wanted | {field.name for field in msgspec.structs.fields(m.Failed)} - {"id"}) - shown)

    def test_package_opens(self) -> None:
        """The worked package opens with the key beside it, by the code."""
        blocks = packet_examples.written(PACKETS)
        private = load_pem_private_key(blocks["private-key"].encode(), None)
        event = codec.decode_event(blocks["event-message-whole"].encode())
        assert isinstance(event, m.StoredMessage)
        keys = verify_bundle(
            msgspec.json.decode(values()["alice-keys-1"], type=m.KeyBundle),
            srv=facts("hello-signature")["server id"],
            user="alice",
        )
        message = delivered(event, json.loads(event.package.hdr)["room"], "bob")
        examined = envelope.examine(message, keys.known[event.device], {str(message.kid): private})  # type: ignore[dict-item]
        self.assertEqual((None, None, "Hello everyone!"), (examined.fault, examined.unread, examined.text))

    def test_whole_lines(self) -> None:
        """The lines of the worked package are those of the story."""
        blocks = packet_examples.written(PACKETS)
        lines = {name: line for name, who, line in example_lines() if (name, who) != ("send", "S")}
        self.assertEqual(lines["send"].decode(), blocks["send-whole"].strip())
        self.assertEqual(lines["event-message"].decode(), blocks["event-message-whole"].strip())


class StrangerTests(SynchronousTestCase):
    """Somebody who has only the document: every derivation again, without a line of the project's code."""

    def vec(self, data: bytes) -> bytes:
        """As the document says."""
        if len(data) < 64:
            return bytes([len(data)]) + data
        assert len(data) < 16384
        return (0x4000 | len(data)).to_bytes(2) + data

    def h(self, label: str, *parts: bytes) -> bytes:
        """As the document says."""
        return hashlib.sha256(b"".join(map(self.vec, (label.encode(), *parts)))).digest()

    def expand(self, secret: bytes, label: str, context: bytes, length: int) -> bytes:
        """As the document says, for at most 32 bytes."""
        info = length.to_bytes(2) + self.vec(b"SecureChat 1 " + label.encode()) + self.vec(context)
        return hmac.digest(secret, info + b"\x01", "sha256")[:length]

    def signed(self, label: str, content: bytes) -> bytes:
        """What Ed25519 signs."""
        return self.vec(b"SecureChat 1 " + label.encode()) + self.vec(content)

    def verify(self, public: bytes, label: str, content: bytes, signature: str) -> None:
        """Fails where a signature is wrong."""
        try:
            key = Ed25519PublicKey.from_public_bytes(public)
            key.verify(base64.b64decode(signature), self.signed(label, content))
        except InvalidSignature:
            self.fail(f"a signature with the label {label} does not verify")

    def test_notation(self) -> None:
        """The first table."""
        table, zeros = facts("notation"), bytes(32)
        signature = Ed25519PrivateKey.from_private_bytes(zeros).sign(self.signed("example", b"abc"))
        found = [
            self.vec(b"abc"),
            self.vec(bytes(100))[:4],
            self.h("example", b"abc"),
            self.expand(zeros, "example", b"abc", 16),
            signature,
        ]
        self.assertEqual(
            [text for name, text in table.items() if name[0] in "vHES" and name[:2] not in ("SH", "Ed")],
            [value.hex() for value in found],
        )

    def test_hello(self) -> None:
        """Server id and signature of the greeting."""
        table = facts("hello-signature")
        lk, exporter, nonce = (bytes.fromhex(table[name]) for name in ("lk", "exporter", "nonce"))
        self.assertEqual(table["server id"], b64url(hashlib.sha256(lk).digest()))
        content = self.h("hello", lk, exporter, nonce)
        self.assertEqual(table["content"], content.hex())
        self.verify(lk, "hello", content, table["sig"])
        (line,) = [line for name, _, line in example_lines() if name == "hello"]
        hello = json.loads(line)
        self.assertEqual((lk, nonce), (base64.b64decode(hello["lk"]), base64.b64decode(hello["nonce"])))
        self.assertEqual(table["sig"], hello["sig"])

    def test_password(self) -> None:
        """Everything that follows from the root."""
        table = facts("password")
        root, srv = bytes.fromhex(table["root"]), facts("hello-signature")["server id"]
        context = self.h("auth", srv.encode(), b"alice")
        self.assertEqual(table['H("auth", srv, "alice")'], context.hex())
        auth = self.expand(root, "auth", context, 32)
        self.assertEqual((table["auth"], table["token"]), (auth.hex(), f"sc1${b64url(auth)}"))
        keys = [self.expand(root, label, b"", 32).hex() for label in ("keystore", "backup")]
        self.assertEqual([table["keystore key"], table["backup key"]], keys)
        secret = bytes.fromhex(facts("fake-salt")["secret"])
        salt = self.expand(secret, "fake salt", b"nobody", 16)
        self.assertEqual(facts("fake-salt")['fake salt of "nobody"'], base64.b64encode(salt).decode())

    def test_keys(self) -> None:
        """Certificate, list, digest, key ids and fingerprint."""
        certificate, listed = facts("certificate"), facts("device-list")
        ik, dk = bytes.fromhex(certificate["IK, public"]), bytes.fromhex(certificate["DK, public"])
        cert, signed = certificate["cert"].encode(), listed["list"].encode()
        self.verify(ik, "device", cert, certificate["ik_sig"])
        self.verify(dk, "device", cert, certificate["dk_sig"])
        self.verify(ik, "devlist", signed, listed["sig"])
        fields = json.loads(signed)
        self.assertEqual([hashlib.sha256(cert).hexdigest()], fields["devs"])
        self.assertEqual(json.loads(cert)["dev"], hashlib.sha256(dk).hexdigest()[:32])
        self.assertEqual(listed["kid"], hashlib.sha256(base64.b64decode(fields["rk"])).hexdigest()[:32])
        self.assertEqual(listed["digest"], hashlib.sha256(signed).hexdigest())
        self.assertEqual(
            listed["digest"], json.loads(base64.b64decode(json.loads(values()["alice-keys-2"])["list"]))["prev"]
        )
        self.assertEqual(listed["fingerprint"].replace(" ", ""), hashlib.sha256(ik).hexdigest())

    def test_keys_of_backup(self) -> None:
        """The table of the keys of a backup is that of the worked one."""
        table = rows(sections(PACKETS)["Sealed backup"], "key", "type", "value")
        self.assertEqual(list(self.opened_backup()), [row[0] for row in table])

    def test_login_proof(self) -> None:
        """A device over a connection."""
        table = facts("login-proof")
        lk = bytes.fromhex(facts("hello-signature")["lk"])
        parts = (bytes.fromhex(table[name]) for name in ("exporter", "nonce"))
        content = self.h("login", lk, *parts, b"alice")
        self.assertEqual(table["content"], content.hex())
        device = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(table["DK, seed"]))
        self.verify(device.public_key().public_bytes_raw(), "login", content, table["proof"])

    def test_safety_number(self) -> None:
        """Two people's 60 digits."""
        table, srv = facts("safety-number"), facts("hello-signature")["server id"]
        halves = []
        for name in ("alice", "bob"):
            ik = bytes.fromhex(facts("conversation")[f"IK of {name}"])
            state = bytes(2) + ik + f"{name}@{srv}".encode()
            for _ in range(5200):
                state = hashlib.sha512(state + ik).digest()
            halves.append(state[:32])
            self.assertEqual(table[f"half({name})"], halves[-1].hex())
        digits = [
            "".join(f"{int.from_bytes(half[at : at + 5]) % 100_000:05}" for at in range(0, 30, 5)) for half in halves
        ]
        self.assertEqual(table["number"].replace(" ", ""), "".join(sorted(digits)))

    def test_room_events(self) -> None:
        """Two events, their signatures and hashes, and the links behind them."""
        table, links = facts("room-event"), facts("links")
        link = b""
        for number, name in enumerate(("create", "join"), 1):
            event = table[name].encode()
            fields = json.loads(event)
            device = json.loads(self.first_certificate(fields["by"]))
            self.assertEqual((device["dev"], device["ik"]), (fields["dev"], fields["ik"]))
            self.verify(base64.b64decode(device["dk"]), "room", event, table[f"sig of {name}"])
            eh = self.h("event", event)
            self.assertEqual(table[f"eh of {name}"], eh.hex())
            link = self.h("link", link, eh)
            self.assertEqual(links[f"link {number}"], link.hex())
        self.assertEqual(table["eh of create"], json.loads(table["join"])["room"])

    def first_certificate(self, user: str) -> bytes:
        """Of somebody's first list."""
        return base64.b64decode(json.loads(values()[f"{user}-keys-1"])["certs"][0]["cert"])

    def test_header(self) -> None:
        """The signed header, step by step; id, audience and transcript."""
        table, key = facts("header"), facts("package")["Fernet key"].encode()
        hdr, package = table["hdr"].encode(), json.loads(packet_examples.written(PACKETS)["send-whole"])["package"]
        fields = json.loads(hdr)
        self.assertEqual(hdr, base64.b64decode(package["hdr"]))
        names = sorted(package["kids"])
        audience = json.dumps([[name, package["kids"][name]] for name in names], separators=(",", ":"))
        self.assertEqual((table["A"], table["rcp"]), (audience, self.h("rcp", audience.encode()).hex()))
        digest = hashlib.sha256(package["encrypted_message"].encode()).hexdigest()
        self.assertEqual((table["rcp"], digest), (fields["rcp"], fields["mh"]))
        bind_key = hmac.digest(hmac.digest(bytes(32), key, "sha256"), b"SecureChat 1 bind\x01", "sha256")
        bind = hmac.digest(bind_key, hdr, "sha256")
        self.assertEqual((table["bind key"], table["bind"]), (bind_key.hex(), bind.hex()))
        self.assertEqual(bind, base64.b64decode(package["bind"]))
        device = json.loads(self.first_certificate("alice"))
        self.assertEqual(package["sig"], table["sig"])
        self.verify(base64.b64decode(device["dk"]), "envelope", self.vec(hdr) + self.vec(bind), package["sig"])
        message = self.h("id", hdr, bind)
        self.assertEqual(table["id"], message.hex())
        before = self.h("th0", fields["room"].encode())
        after = self.h("th", before, bytes.fromhex(fields["head"]), message)
        self.assertEqual([table["th_0"], table["th_1"]], [before.hex(), after.hex()])
        self.assertEqual([0, before.hex()], fields["th"])

    def test_conversation(self) -> None:
        """The id of a private conversation."""
        table = facts("conversation")
        pair = sorted(bytes.fromhex(table[f"IK of {name}"]) for name in ("alice", "bob"))
        self.assertEqual(table["conversation"], f"pm:{self.h('pm', *pair).hex()}")

    def opened_backup(self) -> dict[str, Any]:
        """The JSON of alice's first backup."""
        table, stored = facts("backup"), json.loads(values()["alice-backup-1"])
        blob = base64.b64decode(stored["blob"])
        srv = facts("hello-signature")["server id"].encode()
        associated = self.h("backup", blob[:1], srv, b"alice", stored["version"].to_bytes(8))
        self.assertEqual((table["associated data"], table["nonce"]), (associated.hex(), blob[1:13].hex()))
        padded = ChaCha20Poly1305(bytes.fromhex(table["key"])).decrypt(blob[1:13], blob[13:], associated)
        size = int.from_bytes(padded[:4])
        self.assertEqual(b"", padded[4 + size :].strip(b"\0"))
        self.assertEqual(int(table["length of plaintext"]), len(padded))
        plain: dict[str, Any] = json.loads(padded[4 : 4 + size])
        return plain

    def test_backup(self) -> None:
        """The sealed backup opens, and holds the account's identity."""
        seed = base64.b64decode(self.opened_backup()["ik"])
        self.assertEqual(facts("certificate")["IK, seed"], seed.hex())

    def test_note(self) -> None:
        """A note, from the RSA key on: its name, and that it opens to what somebody has half written."""
        table, srv = facts("note-sealed"), facts("hello-signature")["server id"]
        private = load_pem_private_key(packet_examples.written(PACKETS)["private-key"].encode(), None)
        der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        root = hmac.digest(hmac.digest(bytes(32), der, "sha256"), b"SecureChat 1 notes\x01", "sha256")
        names, key = self.expand(root, "note names", b"", 32), self.expand(root, "note", b"", 32)
        subject = self.vec(table["kind"].encode()) + self.vec(table["subject"].encode())
        name = self.expand(names, "note name", subject, 16)
        associated = self.h("note", srv.encode(), b"bob", name)
        found = {
            "SHA-256 of RK's DER": hashlib.sha256(der).digest(), "root": root, "names": names, "name": name, "key": key,
            "associated data": associated,
        }  # fmt: skip
        self.assertEqual({what: table[what] for what in found}, {what: value.hex() for what, value in found.items()})
        blob = bytes.fromhex(table["blob"])
        self.assertEqual((facts("package")["kids.bob"], table["nonce"]), (blob[:16].hex(), blob[16:28].hex()))
        padded = ChaCha20Poly1305(key).decrypt(blob[16:28], blob[28:], associated)
        size = int.from_bytes(padded[:4])
        self.assertEqual((b"Not yet.", b""), (padded[4 : 4 + size], padded[4 + size :].strip(b"\0")))
        self.assertEqual((0, int(table["length of plaintext"])), (len(padded) % 256, len(padded)))

    def test_recovery_code(self) -> None:
        """A recovery code, and the key that follows from it."""
        table = facts("recovery-code")
        secret = bytes.fromhex(table["secret"])
        check = hashlib.sha256(b"SecureChat recovery code" + secret).hexdigest()[:3]
        self.assertEqual(table["check, 12 bits"], check)
        alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        bits = 0
        for digit in table["code"].replace("-", ""):
            bits = bits << 5 | alphabet.index(digit)
        self.assertEqual(secret.hex() + check, f"{bits:035x}")
        root = hmac.digest(bytes(32), secret, "sha256")
        key = hmac.digest(root, b"SecureChat 1 recovery code\x01", "sha256")
        self.assertEqual(table["backup key"], key.hex())

    def test_package(self) -> None:
        """The package, step by step; RSA and OAEP by hand."""
        table, blocks = facts("package"), packet_examples.written(PACKETS)
        private: Any = load_pem_private_key(blocks["private-key"].encode(), None)
        numbers = private.private_numbers()
        wrapped = int.from_bytes(base64.b64decode(table["encrypted_keys.bob"]))
        encoded = pow(wrapped, numbers.d, numbers.public_numbers.n).to_bytes(384)
        seed = xor(encoded[1:33], mgf1(encoded[33:], 32))
        self.assertEqual(table["OAEP seed for bob"], seed.hex())
        block = xor(encoded[33:], mgf1(seed, 351))
        self.assertEqual(hashlib.sha256().digest(), block[:32])
        key = block[32:].lstrip(b"\0")[1:]
        self.assertEqual(table["Fernet key"], key.decode())
        raw, token = base64.urlsafe_b64decode(key), base64.urlsafe_b64decode(table["encrypted_message"])
        self.assertEqual(token[-32:], hmac.digest(raw[:16], token[:-32], "sha256"))
        self.assertEqual((128, bytes(8), table["IV"]), (token[0], token[1:9], token[9:25].hex()))
        decryptor = Cipher(algorithms.AES128(raw[16:]), modes.CBC(token[9:25])).decryptor()
        padded = decryptor.update(token[25:-32]) + decryptor.finalize()
        self.assertEqual(table["padded text"], padded.hex())
        self.assertEqual(table["text"], padded[: -padded[-1]].decode())


def b64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def xor(a: bytes, b: bytes) -> bytes:
    """Byte by byte."""
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def mgf1(seed: bytes, length: int) -> bytes:
    """MGF1 with SHA-256 (RFC 8017, appendix B.2.1)."""
    blocks = (hashlib.sha256(seed + number.to_bytes(4)).digest() for number in range(length // 32 + 1))
    return b"".join(blocks)[:length]


class FlowTests(SynchronousTestCase):
    """Tests for the diagram of the flow."""

    def test_readme_quotes_it(self) -> None:
        """README.md has the very diagram of PacketDiagram.md."""
        here = packet_examples.FLOW.search(PACKETS)
        there = packet_examples.FLOW.search(document("README.md"))
        assert here is not None
        if there is None:
            raise SkipTest("README.md has no place for the diagram yet")
        self.assertEqual(here[1], there[1], "python -m tests.packet_examples writes it")


class OtherDocumentsTests(SynchronousTestCase):
    """Tests for docs/: what they list is what there is."""

    def test_settings(self) -> None:
        """docs/operations.md has every setting with its default and every option, and no other."""
        text = document("docs/operations.md")
        defaults = settings.Settings()
        wanted = {name: default_text(getattr(defaults, name)) for name in settings._NAMES}
        self.assertEqual(
            wanted, {row[0].strip("`"): row[1].strip("`") for row in rows(text, "setting", "default", "what")}
        )
        options = {f"--{name}" for name, *_ in [*tap.Options.optParameters, *tap.Options.optFlags]} | {"--listen"}
        self.assertEqual(options, {row[0].strip("`").split()[0] for row in rows(text, "option", "setting")})

    def test_files(self) -> None:
        """docs/operations.md has every file of the data directory."""
        places = [name for name, value in vars(settings.DataDir).items() if isinstance(value, property)]
        data = settings.DataDir(Path("data"))
        wanted = {getattr(data, name).name for name in places}
        found = {row[0].strip("`") for row in rows(document("docs/operations.md"), "file", "what", "secret", "back up")}
        self.assertEqual(set(), wanted - found)

    def test_arrows(self) -> None:
        """docs/architecture.md has the arrows that tests.unit.test_layers holds."""
        table = rows(document("docs/architecture.md"), "layer", "may import")
        found = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in table}
        wanted = {
            layer: set(targets) for layer, targets in test_layers.ARROWS.items() if targets is not test_layers.ALL
        }
        self.assertEqual(wanted, found)

    def test_tree(self) -> None:
        """docs/architecture.md has every module of the package, and no other."""
        found = re.search(r"```text\nsecurechat/\n(.*?)```", document("docs/architecture.md"), re.DOTALL)
        assert found is not None
        self.assertEqual(sorted(modules_of_tree(found[1])), sorted(modules_of_package()))

    def test_named_tests(self) -> None:
        """Every test that docs/threat-model.md and docs/reliability.md name is there."""
        for name in ("docs/threat-model.md", "docs/reliability.md"):
            named = set(re.findall(r"`(tests\.[\w.]+)`", document(name)))
            self.assertTrue(named)
            self.assertEqual([], sorted(name for name in named if not is_there(name)))

    def test_long_tests(self) -> None:
        """docs/reliability.md has every long test."""
        modules = (ROOT / "tests" / "long").glob("[!_]*.py")
        listed = re.findall(r"python -m tests\.long (\w+)", document("docs/reliability.md"))
        self.assertEqual(sorted([*(path.stem for path in modules), "all"]), sorted(listed))

    def test_links(self) -> None:
        """Every link to a file or a heading of ours leads somewhere."""
        lost = []
        for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
            for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
                if re.match(r"\w+:", target):
                    continue
                name, _, anchor = target.partition("#")
                there = path.parent / name if name else path
                if not there.exists() or (anchor and anchor not in anchors(there)):
                    lost.append(f"{path.name}: {target}")
        self.assertEqual([], lost)


def anchors(path: Path) -> set[str]:
    """What a link can lead to in a document, by the rule that forges share."""
    headings = sections(path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def default_text(value: Any) -> str:
    """A default as TOML."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def modules_of_tree(text: str) -> Iterator[str]:
    """The files of a drawn tree, as paths."""
    path: list[str] = []
    for line in text.splitlines():
        entry = re.match(r"^( +)(\S+)", line)
        if entry is None or len(entry[1]) > 8:  # what goes on from the line above
            continue
        depth = len(entry[1]) // 2 - 1
        names = entry[2].rstrip(",").split(",")
        path = [*path[:depth], names[0]]
        if not names[0].endswith("/"):
            yield "".join(path)


def modules_of_package() -> Iterator[str]:
    """The modules, but for those that say no more than that there is a package."""
    for path in PACKAGE.rglob("*"):
        if path.suffix in (".py", ".toml", ".sql") and path.name != "__init__.py":
            yield path.relative_to(PACKAGE).as_posix()


def is_there(name: str) -> bool:
    """Whether a dotted name is a module of tests, a class in it, or one of its methods."""
    parts: Sequence[str] = name.split(".")
    for size in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:size]).with_suffix(".py")
        if path.exists():
            node: Any = ast.parse(path.read_text(encoding="utf-8"))
            for part in parts[size:]:
                node = next((child for child in node.body if getattr(child, "name", "") == part), None)
                if node is None:
                    return False
            return True
    return ROOT.joinpath(*parts).is_dir()
