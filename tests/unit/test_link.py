"""Tests for what both ends share of Twisted: lines in, TLS, addresses and connect lines."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from pathlib import Path
from typing import Any

import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto.certificate import self_signed
from securechat.link import (
    BadAddress,
    BoundedLineReceiver,
    ClientTLS,
    ConnectLine,
    ServerTLS,
    bucket_of,
    exporter_of,
    is_address,
    is_loopback,
    join_address,
    split_address,
)
from securechat.wire import limits

# --- lines in -----------------------------------------------------------------------------------------------------


class Recorder(BoundedLineReceiver):
    """Keeps the lines it gets; a line may say what else happens."""

    def __init__(self, clock: Clock, limit: int = 10) -> None:
        super().__init__(clock, limit)
        self.lines: list[bytes] = []
        self.too_long: list[int] = []

    def lineReceived(self, line: bytes) -> None:
        """As LineReceiver's."""
        self.lines.append(line)
        if line == b"close":
            self.hang_up()
        elif line == b"stop":
            self.closing = True
        elif line == b"longer":
            self.received.limit = 20

    def lineTooLong(self, limit: int) -> None:
        """As BoundedLineReceiver's."""
        self.too_long.append(limit)
        super().lineTooLong(limit)


class BoundedLineReceiverTests(SynchronousTestCase):
    """Tests for `BoundedLineReceiver`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = StringTransport()
        self.protocol = Recorder(self.clock)
        self.protocol.makeConnection(self.transport)

    def test_every_split(self) -> None:
        """The lines are the same wherever the bytes are cut."""
        data = b"one\r\n\ntwo\nthree\n"
        for at in range(len(data) + 1):
            protocol = Recorder(self.clock)
            protocol.makeConnection(StringTransport())
            protocol.dataReceived(data[:at])
            protocol.dataReceived(data[at:])
            self.assertEqual([b"one", b"", b"two", b"three"], protocol.lines)

    def test_closing_dispatches_nothing_more(self) -> None:
        """Lines that were read already are dropped once it closes, and so is what still arrives."""
        for how in (b"close", b"stop"):
            protocol = Recorder(self.clock)
            protocol.makeConnection(StringTransport())
            protocol.dataReceived(b"one\n" + how + b"\ntwo\n")
            protocol.dataReceived(b"three\n")
            self.clock.advance(0)
            self.assertEqual([b"one", how], protocol.lines)

    def test_yields_to_others(self) -> None:
        """After some lines it lets the reactor go on, and then takes the rest, in order."""
        count = 2 * limits.LINES_PER_TURN + 3
        self.protocol.dataReceived(b"".join(b"%d\n" % number for number in range(count)))
        self.assertEqual(limits.LINES_PER_TURN, len(self.protocol.lines))
        seen = []

        def others() -> None:
            seen.append(len(self.protocol.lines))
            self.protocol.dataReceived(b"last\n")
            seen.append(len(self.protocol.lines))

        self.assertEqual("paused", self.transport.producerState)  # or a quick peer would fill the memory
        self.clock.callLater(0, others)
        self.clock.advance(0)
        self.assertEqual([2 * limits.LINES_PER_TURN] * 2, seen)
        self.assertEqual("producing", self.transport.producerState)
        self.assertEqual([*(b"%d" % number for number in range(count)), b"last"], self.protocol.lines)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_reasons_not_to_read(self) -> None:
        """It reads on when every reason not to is gone, and is not told twice."""
        states = []
        for step in (
            lambda: self.protocol.hold("one"),
            lambda: self.protocol.hold("two"),
            lambda: self.protocol.hold("one"),
            lambda: self.protocol.let_go("one"),
            lambda: self.protocol.let_go("three"),
            lambda: self.protocol.let_go("two"),
            lambda: self.protocol.let_go("two"),
        ):
            step()
            states.append(self.transport.producerState)
        self.assertEqual(["paused"] * 5 + ["producing"] * 2, states)

    def test_no_reading_once_it_closes(self) -> None:
        """A connection that closes is neither paused nor resumed any more."""
        self.protocol.hold("one")
        self.protocol.hang_up()
        self.protocol.let_go("one")
        self.protocol.hold("two")
        self.assertEqual("paused", self.transport.producerState)

    def test_lost_between_turns(self) -> None:
        """A connection lost while lines wait leaves nothing to be done."""
        self.protocol.dataReceived(b"x\n" * (limits.LINES_PER_TURN + 1))
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.protocol.dataReceived(b"y\n")
        self.assertEqual(limits.LINES_PER_TURN, len(self.protocol.lines))

    def test_closed_between_turns(self) -> None:
        """So does a close that was decided elsewhere."""
        self.protocol.dataReceived(b"x\n" * (limits.LINES_PER_TURN + 1))
        self.protocol.hang_up()
        self.clock.advance(0)
        self.assertEqual(limits.LINES_PER_TURN, len(self.protocol.lines))

    def test_line_too_long(self) -> None:
        """An overlong line ends the connection; those before it were dispatched, those after it are not."""
        self.protocol.dataReceived(b"one\n12345678901\ntwo\n")
        self.assertEqual(([b"one"], [10]), (self.protocol.lines, self.protocol.too_long))
        self.assertTrue(self.transport.disconnecting)
        self.protocol.dataReceived(b"x" * 100)
        self.assertEqual([10], self.protocol.too_long)

    def test_unfinished_line_too_long(self) -> None:
        """It need not be finished."""
        self.protocol.dataReceived(b"123456")
        self.protocol.dataReceived(b"123456")
        self.assertEqual([10], self.protocol.too_long)

    def test_limit_moves_with_a_line(self) -> None:
        """A limit that a line raises holds for the next one, also where both came at once."""
        self.protocol.dataReceived(b"longer\n12345678901234567890\n")
        self.assertEqual([b"longer", b"12345678901234567890"], self.protocol.lines)

    def test_abort_timer(self) -> None:
        """A peer that does not let go is cut off after a while."""
        self.protocol.hang_up()
        self.assertEqual((True, False), (self.transport.disconnecting, self.transport.disconnected))
        self.clock.advance(limits.ABORT_SECONDS - 0.1)
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(0.2)
        self.assertTrue(self.transport.disconnected)

    def test_no_abort_after_the_end(self) -> None:
        """A peer that lets go in time is not."""
        self.protocol.hang_up()
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertFalse(self.transport.disconnected)

    def test_hanging_up_twice(self) -> None:
        """Once is enough."""
        self.protocol.hang_up()
        self.protocol.hang_up()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))

    def test_linear(self) -> None:
        """A long line in one-byte chunks costs no more than its bytes."""
        protocol = Recorder(self.clock, 1 << 20)
        protocol.makeConnection(StringTransport())
        before = time.process_time()
        for _ in range(64 * 1024):
            protocol.dataReceived(b"x")
        protocol.dataReceived(b"\n")
        self.assertEqual([64 * 1024], [len(line) for line in protocol.lines])
        self.assertLess(time.process_time() - before, 0.5)


# --- TLS ----------------------------------------------------------------------------------------------------------


class Handle:
    """A transport as far as `exporter_of` looks at one."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def getHandle(self) -> SSL.Connection:
        """As ITLSTransport's."""
        return self._connection


def shake_hands(client: SSL.Connection, server: SSL.Connection) -> None:
    """A handshake in memory. Raises SSL.Error."""
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(10):
        for end, other in ((client, server), (server, client)):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            finally:
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(end.bio_read(1 << 16))


class TLSCase(SynchronousTestCase):
    """Tests with key and certificate in files."""

    authority = trustme.CA()
    NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    ours = self_signed(["localhost", "127.0.0.1"], NOW)
    theirs = self_signed(["localhost"], NOW)

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.key, self.chain = str(self.directory / "key"), str(self.directory / "chain")

    def write(self, key: bytes, chain: bytes) -> None:
        """Replaces the files."""
        Path(self.key).write_bytes(key)
        Path(self.chain).write_bytes(chain)

    def server(self, pair: tuple[bytes, bytes] | None = None) -> ServerTLS:
        """A server with this key and certificate."""
        self.write(*(pair or self.ours))
        return ServerTLS(self.key, self.chain)

    def issued(self, *names: str, **settings: Any) -> tuple[bytes, bytes]:
        """A key and certificate from an authority."""
        issued = self.authority.issue_cert(*names, **settings)
        return issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems)

    def trust_the_authority(self) -> None:
        """What is made from now on trusts it as if the machine did."""
        file = self.directory / "authority"
        self.authority.cert_pem.write_to_path(file)
        before = os.environ.get("SSL_CERT_FILE")

        def restore() -> None:
            os.environ.pop("SSL_CERT_FILE")
            if before is not None:
                os.environ["SSL_CERT_FILE"] = before

        os.environ["SSL_CERT_FILE"] = str(file)
        self.addCleanup(restore)

    def connected(self, client: ClientTLS, server: ServerTLS) -> tuple[SSL.Connection, SSL.Connection]:
        """Both ends of a connection."""
        ends = client.clientConnectionForTLS(None), server.serverConnectionForTLS(None)
        shake_hands(*ends)
        return ends

    def serial(self, server: ServerTLS) -> int:
        """The certificate that a server shows."""
        certificate = self.connected(ClientTLS("localhost"), server)[0].get_peer_certificate()
        assert certificate is not None
        return certificate.get_serial_number()


class ServerTLSTests(TLSCase):
    """Tests for `ServerTLS`."""

    def test_version(self) -> None:
        """It speaks TLS 1.3."""
        client, _ = self.connected(ClientTLS("localhost"), self.server())
        self.assertEqual("TLSv1.3", client.get_protocol_version_name())

    def test_refuses_older_versions(self) -> None:
        """A client that speaks no more than TLS 1.2 is refused."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        end = self.server().serverConnectionForTLS(None)
        self.assertRaises(SSL.Error, shake_hands, SSL.Connection(context, None), end)

    def test_reload(self) -> None:
        """New connections get the new certificate; those there are go on."""
        server = self.server()
        client, end = self.connected(ClientTLS("localhost"), server)
        before = self.serial(server)
        self.write(*self.theirs)
        self.assertEqual(before, self.serial(server))
        server.reload()
        self.assertNotEqual(before, self.serial(server))
        end.send(b"still here")
        client.bio_write(end.bio_read(1 << 16))
        self.assertEqual(b"still here", client.recv(100))

    def test_reload_of_something_unusable(self) -> None:
        """Where the new files cannot be used it says so, and goes on with what it had."""
        server = self.server()
        before = self.serial(server)
        for key, chain in (
            (self.theirs[0], self.ours[1]),
            (b"", self.theirs[1]),
            (self.theirs[0], b"not a certificate"),
            (self.theirs[1], self.theirs[0]),
        ):
            self.write(key, chain)
            self.assertRaises((OSError, SSL.Error), server.reload)
            self.assertEqual(before, self.serial(server))
        Path(self.key).unlink()
        self.assertRaises((OSError, SSL.Error), server.reload)
        self.assertEqual(before, self.serial(server))

    def test_files_that_do_not_fit(self) -> None:
        """It is not made from a key and another one's certificate."""
        self.assertRaises(SSL.Error, self.server, (self.theirs[0], self.ours[1]))

    def test_sends_the_chain(self) -> None:
        """What stands after its own certificate is sent along."""
        child = self.authority.create_child_ca()
        issued = child.issue_cert("localhost")
        server = self.server(
            (issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        )
        client, _ = self.connected(ClientTLS("localhost"), server)
        self.assertEqual(2, len(client.get_peer_cert_chain() or ()))


class ClientTLSTests(TLSCase):
    """Tests for `ClientTLS`."""

    def vouched(self, host: str, pair: tuple[bytes, bytes] | None = None) -> bool:
        """Whether a server with this certificate is vouched for under a name; the handshake succeeds either way."""
        client = ClientTLS(host)
        connection, _ = self.connected(client, self.server(pair))
        return client.vouched(connection)

    def test_self_signed(self) -> None:
        """A certificate that nobody vouches for passes the handshake, and is not vouched for."""
        self.assertFalse(self.vouched("localhost"))
        self.assertFalse(self.vouched("127.0.0.1"))

    def test_unknown_authority(self) -> None:
        """One from an authority that the machine does not trust is not vouched for."""
        self.assertFalse(self.vouched("chat.example.org", self.issued("chat.example.org")))

    def test_trusted_authority(self) -> None:
        """One from a trusted authority is vouched for under its own names, and no others."""
        self.trust_the_authority()
        pair = self.issued("chat.example.org", "*.example.net", "192.0.2.7", "2001:db8::1")
        for host in ("chat.example.org", "CHAT.example.org", "a.example.net", "192.0.2.7", "2001:db8::1"):
            self.assertTrue(self.vouched(host, pair), host)
        for host in (
            "example.org",
            "chat.example.org.evil",
            "a.b.example.net",
            "192.0.2.8",
            "2001:db8::2",
            "localhost",
        ):
            self.assertFalse(self.vouched(host, pair), host)

    def test_expired(self) -> None:
        """One that has expired is not vouched for."""
        self.trust_the_authority()
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        pair = self.issued("chat.example.org", not_before=past, not_after=past + datetime.timedelta(days=1))
        self.assertFalse(self.vouched("chat.example.org", pair))

    def test_self_signed_beside_a_trusted_authority(self) -> None:
        """Trusting an authority vouches for nothing that it did not sign."""
        self.trust_the_authority()
        self.assertFalse(self.vouched("localhost"))

    def test_each_connection_by_itself(self) -> None:
        """What was found of one connection says nothing of the next."""
        self.trust_the_authority()
        client = ClientTLS("localhost")
        good, _ = self.connected(client, self.server(self.issued("localhost")))
        bad, _ = self.connected(client, self.server(self.ours))
        self.assertEqual([True, False], [client.vouched(good), client.vouched(bad)])

    def test_somebody_elses_connection(self) -> None:
        """A connection that it did not make is not vouched for."""
        self.trust_the_authority()
        connection, _ = self.connected(ClientTLS("localhost"), self.server(self.issued("localhost")))
        self.assertFalse(ClientTLS("localhost").vouched(connection))

    def test_refuses_older_versions(self) -> None:
        """A server that speaks no more than TLS 1.2 is refused."""
        self.write(*self.ours)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.use_privatekey_file(self.key)
        context.use_certificate_chain_file(self.chain)
        client = ClientTLS("localhost").clientConnectionForTLS(None)
        self.assertRaises(SSL.Error, shake_hands, client, SSL.Connection(context, None))

    def test_name_indication(self) -> None:
        """A name is sent to the server, an address is not."""
        self.assertEqual(b"localhost", self.connected(ClientTLS("localhost"), self.server())[1].get_servername())
        self.assertIs(None, self.connected(ClientTLS("127.0.0.1"), self.server())[1].get_servername())


class ExporterTests(TLSCase):
    """Tests for `exporter_of`."""

    def test_both_ends(self) -> None:
        """Both ends of a connection have the same 32 bytes."""
        client, server = self.connected(ClientTLS("localhost"), self.server())
        self.assertEqual(exporter_of(Handle(client)), exporter_of(Handle(server)))
        self.assertEqual(32, len(exporter_of(Handle(client))))

    def test_each_connection(self) -> None:
        """Another connection of the same two has others: so a greeting cannot be relayed."""
        server, client = self.server(), ClientTLS("localhost")
        found = {exporter_of(Handle(self.connected(client, server)[0])) for _ in range(3)}
        self.assertEqual(3, len(found))

    def test_plain(self) -> None:
        """Without TLS there are none."""
        self.assertEqual(b"", exporter_of(StringTransport()))


# --- addresses ----------------------------------------------------------------------------------------------------


class AddressTests(SynchronousTestCase):
    """Tests for addresses as people type them."""

    def test_split(self) -> None:
        """Host and port, with the default port where none is given."""
        for text, expected in (
            ("localhost", ("localhost", 12345)),
            ("localhost:1", ("localhost", 1)),
            ("Chat.Example.ORG:65535", ("chat.example.org", 65535)),
            ("192.0.2.7:0", ("192.0.2.7", 0)),
            ("[::1]", ("::1", 12345)),
            ("[2001:db8::1]:99", ("2001:db8::1", 99)),
        ):
            self.assertEqual(expected, split_address(text))
        self.assertEqual(("localhost", 7), split_address("localhost", 7))

    def test_not_addresses(self) -> None:
        """Anything else is refused, with how an address looks."""
        for text in (
            "", " ", ":", ":1", "host:", "host:x", "host:65536", "host:-1", "host:1:2", "::1", "[::1", "::1]", "[]:1",
            "a b", "host:1/", "host/path", "user@host", "user:password@host:1", "@host", "host\n:1", "host\0",
            "host:1 ", "host?x=1", "host#id=x", "host:1?x", "host:1#id=x", "http://host", "host:1\u202e",
        ):  # fmt: skip
            error = self.assertRaises(BadAddress, split_address, text)
            self.assertIn("Write HOST:PORT", str(error))

    def test_join(self) -> None:
        """An IPv6 address gets its brackets; splitting gives both back."""
        for host, port, text in (("h", 1, "h:1"), ("::1", 2, "[::1]:2"), ("192.0.2.7", 3, "192.0.2.7:3")):
            self.assertEqual(text, join_address(host, port))
            self.assertEqual((host, port), split_address(text))

    def test_buckets(self) -> None:
        """Addresses are counted one by one, those of IPv6 by network, and this machine's own as themselves."""
        for host, bucket in (
            ("192.0.2.7", "192.0.2.7"), ("2001:db8::1", "2001:db8::/64"), ("2001:db8::ffff:2", "2001:db8::/64"),
            ("2001:db8:0:1::1", "2001:db8:0:1::/64"), ("::ffff:192.0.2.7", "192.0.2.7"), ("::1", "::1"),
            ("127.0.0.1", "127.0.0.1"), ("::ffff:127.0.0.1", "127.0.0.1"), ("local", "local"),
            ("fe80::1%eth0", "fe80::/64"),
        ):  # fmt: skip
            self.assertEqual(bucket, bucket_of(host))

    def test_kinds(self) -> None:
        """Addresses are told from names, and this machine from others."""
        for host, address, loopback in (
            ("127.0.0.1", True, True), ("127.9.9.9", True, True), ("::1", True, True), ("localhost", False, True),
            ("192.0.2.7", True, False), ("2001:db8::1", True, False), ("localhost.example.org", False, False),
            ("0.0.0.0", True, False), ("", False, False), ("127.0.0.1.example.org", False, False),
        ):  # fmt: skip
            self.assertEqual((host, address, loopback), (host, is_address(host), is_loopback(host)))


ID = "a" * 43
RID = "b" * 64
hosts = st.sampled_from(["localhost", "chat.example.org", "127.0.0.1", "2001:db8::1"])
codes = st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)


class ConnectLineTests(SynchronousTestCase):
    """Tests for `ConnectLine`."""

    def test_full_line(self) -> None:
        """Everything in it is read."""
        line = ConnectLine.parse(f"securechat://chat.example.org:99/#id={ID}&invite=abc&room=ops")
        self.assertEqual(ConnectLine("chat.example.org", 99, ID, "abc", "ops"), line)

    def test_written(self) -> None:
        """It is written as documented."""
        line = ConnectLine("::1", 99, ID, "abc", "ops")
        self.assertEqual(f"securechat://[::1]:99/#id={ID}&invite=abc&room=ops", str(line))
        self.assertEqual("securechat://h:1/", str(ConnectLine("h", 1)))
        self.assertEqual("securechat+insecure://127.0.0.1:1/", str(ConnectLine("127.0.0.1", 1, tls=False)))

    @settings(max_examples=40, deadline=None, database=None)
    @given(hosts, st.integers(0, 65535), st.sampled_from([None, ID, "-_" * 21 + "A"]), codes, codes)
    def test_round_trip(self, host: str, port: int, server: str | None, invite: str | None, room: str | None) -> None:
        """What was written is read back, whatever is in it."""
        line = ConnectLine(host, port, server, invite, room)
        self.assertEqual(line, ConnectLine.parse(str(line)))

    def test_bare_address(self) -> None:
        """A bare address is a line without an id."""
        self.assertEqual(ConnectLine("host", 99), ConnectLine.parse("host:99"))
        self.assertEqual(ConnectLine("host", 12345), ConnectLine.parse(" host\n"))

    def test_default_port(self) -> None:
        """Without a port it is the default one; the slash may be missing."""
        for text in ("securechat://host", "securechat://host/", "securechat://host#id=" + ID, "securechat://host/#"):
            self.assertEqual(("host", 12345), (ConnectLine.parse(text).host, ConnectLine.parse(text).port))
        self.assertEqual(ID, ConnectLine.parse("securechat://host#id=" + ID).id)

    def test_newer_fields(self) -> None:
        """What a newer server puts in is ignored."""
        self.assertEqual(ConnectLine("h", 1, ID), ConnectLine.parse(f"securechat://h:1/#id={ID}&by=bob&x="))

    def test_who_made_it(self) -> None:
        """A member's line says who made it and which room it leads to, by identity and by id."""
        text = f"securechat://h:1/#id={ID}&room=ops&rid={RID}&from=bob:{ID}"
        line = ConnectLine("h", 1, ID, None, "ops", rid=RID, inviter=f"bob:{ID}")
        self.assertEqual(line, ConnectLine.parse(text))
        self.assertEqual(text, str(line))

    def test_nothing_in_a_field(self) -> None:
        """A field with nothing in it is none: nobody is expected under no name, nor a room without one."""
        line = ConnectLine.parse(f"securechat://h:1/#id={ID}&invite=&room=&rid=&from=")
        self.assertEqual(ConnectLine("h", 1, ID), line)

    def test_damaged(self) -> None:
        """Who made it and which room are not half taken: a line that was cut or changed there is refused."""
        for piece in (
            f"rid={RID[:-1]}", f"rid={RID}0", f"rid={RID.upper()}", f"rid={RID}%0a", "rid=ops",
            "from=bob", f"from=bob:{ID[:-1]}", f"from=bob:{ID}a", f"from=:{ID}", f"from=Bob:{ID}", f"from=b b:{ID}",
            f"from=bob:bob:{ID}", f"from=bob:{ID}%0a", f"from={'b' * 33}:{ID}",
        ):  # fmt: skip
            error = self.assertRaises(BadAddress, ConnectLine.parse, f"securechat://h:1/#id={ID}&room=ops&{piece}")
            self.assertIn("damaged", str(error), piece)

    def test_shortened_id(self) -> None:
        """An id that was cut when it was copied is noticed; it must not mean "no id"."""
        for server in ("", "a", ID[:-1], ID + "a"):
            error = self.assertRaises(BadAddress, ConnectLine.parse, f"securechat://h:1/#id={server}")
            self.assertIn("cut short", str(error))

    def test_id_lost_with_the_scheme(self) -> None:
        """A line whose beginning was not copied is refused: taken without its id, it would trust anybody."""
        for text in (f"h:1/#id={ID}", f"h:1#id={ID}", f"h#id={ID}"):
            self.assertRaises(BadAddress, ConnectLine.parse, text)

    def test_other_schemes(self) -> None:
        """Another scheme is refused, with the right one."""
        for text in ("https://host/", "ssh://host", "://host", "securechat+other://host", "SecureChatX://h"):
            error = self.assertRaises(BadAddress, ConnectLine.parse, text)
            self.assertIn("securechat://", str(error))
        self.assertEqual("h", ConnectLine.parse("SECURECHAT://h").host)

    def test_bad_addresses_inside(self) -> None:
        """What stands in the place of the address is judged like one."""
        for text in (
            "securechat://",
            "securechat:///",
            "securechat://h:x/",
            "securechat://u@h/",
            "securechat://[::1/",
            "securechat://h:99999/",
        ):
            self.assertRaises(BadAddress, ConnectLine.parse, text)

    def test_plain_only_here(self) -> None:
        """Without TLS only this machine is reached."""
        self.assertEqual(
            ConnectLine("127.0.0.1", 1, ID, tls=False), ConnectLine.parse(f"securechat+insecure://127.0.0.1:1/#id={ID}")
        )
        for host in ("chat.example.org", "192.0.2.7", "0.0.0.0", "[2001:db8::1]"):
            error = self.assertRaises(BadAddress, ConnectLine.parse, f"securechat+insecure://{host}:1/")
            self.assertIn("without TLS", str(error))

    def test_known(self) -> None:
        """What is kept afterwards has the id, and not what served once."""
        line = ConnectLine("h", 1, None, "invite", "ops", rid=RID, inviter=f"bob:{ID}")
        self.assertEqual(ConnectLine("h", 1, ID), line.known(ID))
