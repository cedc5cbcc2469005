"""What tests of attacks share: real clients on a server that lies, and people who misuse a genuine one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from securechat.client.conversations import Conversation
from securechat.client.entries import Turn
from securechat.crypto.envelope import Position, SealedMessage, parse_header, seal
from securechat.crypto.identity import AccountKeys, verify_bundle
from securechat.crypto.roomlog import RoomLog
from securechat.errors import Exit
from securechat.storage.queries import messages as storing
from securechat.wire import messages as m
from tests.doubles import PASSWORD, SERVER_KEY, SRV, ChatCase, ChatClient, hex_id, rsa_key
from tests.evil import LENIENT, EvilFactory, EvilServer, Impostor, Said, wire_package

AGAIN: Final = "1 message not shown: replayed (you have it already, or it is older than all you were given)"
FORK: Final = "its author was shown another history of this conversation"
OTHER_TEXT: Final = "[ops] 1 message not shown: its text or key was exchanged (ask alice to send it again)"
WRONG: Final = "[ops] 1 message not shown: signature wrong (alice did not write that: the server or somebody else did)"


def forked(author: str) -> str:
    """What is said beside a message whose author was shown another history."""
    return f"{FORK} (compare with {author} by another way; /audit checks all you have)"


class EvilCase(ChatCase):
    """Tests of clients whose server is genuine until a test says how it lies.

    Attributes:
        evil: the liar.
    """

    def setUp(self) -> None:
        self.evil = EvilServer()
        super().setUp()

    def serve(self, identity: Ed25519PrivateKey = SERVER_KEY) -> None:
        """As ChatCase's, with somebody in the middle."""
        super().serve(identity)
        genuine = self.network.server
        self.network.server = EvilFactory(
            self.evil,
            genuine.parts,
            genuine.shared,
            genuine.clock,
            tls=False,
            registration=genuine.registration,
        )

    def lenient(self) -> None:
        """The server stores whatever it is given: a genuine one would refuse what serves its lies."""
        for name, check in LENIENT.items():
            self.patch(storing, name, check)

    # --- people -----------------------------------------------------------------------------------------------------

    def people(self, *names: str, room: str = "ops") -> list[ChatClient]:
        """Clients of fresh accounts in one open room, who have forgotten how they got there."""
        clients = [self.registered(name, room) for name in names]
        for client in clients:
            client.view.take()
        return clients

    def private_room(self, maker: ChatClient, *others: ChatClient, room: str = "den") -> None:
        """A private room of these people, the active one of each."""
        assert maker.exit(f"/create {room} --private") is Exit.OK, maker.view.text
        for other in others:
            assert maker.exit(f"/invite {other.name}") is Exit.OK, maker.view.text
            assert other.exit(f"/accept {room}") is Exit.OK, other.view.text
        for client in (maker, *others):
            client.view.take()

    def impostor(self, user: str) -> Impostor:
        """Keys of the server's own under a name."""
        return Impostor(SRV, user, rsa_key(2))

    def elsewhere(self, user: str, directory: str = "elsewhere") -> ChatClient:
        """A second device of an account, logged in from an empty directory."""
        client = self.client(directory)
        assert client.exit(f"/login {user} {PASSWORD}") is Exit.OK, client.view.text
        client.view.take()
        return client

    @staticmethod
    def compare(client: ChatClient, *users: str) -> None:
        """Somebody compares identities with others, and says that they are the same."""
        for user in users:
            client.view.answers.append("yes")
            assert client.exit(f"/verify {user}") is Exit.OK, client.view.text
        client.view.take()

    # --- what was shown and stored ----------------------------------------------------------------------------------

    @staticmethod
    def messages(client: ChatClient) -> list[str]:
        """The messages shown since the last look, and what stands for those not shown."""
        return [line for line in client.view.take() if line.startswith("[") and "] * " not in line]

    def stored(self, room: str = "ops", user: str = "alice") -> int:
        """How many messages of a conversation the server has."""
        page = self.do(self.store.read(user, room, after=0, before=None, limit=200, max_bytes=10**7))
        return len(page.messages)

    def assertShown(self, part: str, client: ChatClient) -> None:
        """Something was shown since the last look."""
        lines = client.view.take()
        self.assertTrue(any(part in line for line in lines), f"{part!r} is not in\n" + "\n".join(lines))

    def assertWaits(self, client: ChatClient, line: str, why: str) -> None:
        """What is typed is not sent, stays in the outbox, and it is said why."""
        before = self.sends(client)
        self.assertEqual(Exit.UNTRUSTED, client.exit(line))
        self.assertShown(why, client)
        self.assertEqual(before, self.sends(client))
        assert client.core.outbox is not None
        self.assertTrue(client.core.outbox.pending())

    @staticmethod
    def sends(client: ChatClient) -> int:
        """How many messages a client handed to the server on its present connection."""
        return client.wire.commands.count("send") + client.wire.commands.count("pm")

    # --- hands of those who do not use the client --------------------------------------------------------------------

    @staticmethod
    def log(client: ChatClient, room: str = "ops") -> RoomLog:
        """A room's log as a client knows it."""
        conversation = client.core.conversations.get(room)
        assert conversation is not None and conversation.log is not None
        return conversation.log

    def sealed(
        self,
        client: ChatClient,
        text: str,
        where: str = "ops",
        *,
        readers: Iterable[AccountKeys] | None = None,
        signer: Ed25519PrivateKey | None = None,
        **changes: Any,
    ) -> SealedMessage:
        """A message sealed by somebody's own keys, without their client's care.

        Args:
            where: a room, or ``@user``.
            readers: those it is sealed for; the members.
            changes: fields of its `Position`.
        """
        core, account = client.core, client.core.account
        assert account is not None
        if readers is None:
            found = self.conversation(client, where)
            names = [str(found.peer), core.user] if found.log is None else list(found.log.members)
            readers = [self.keys_of(client, name) for name in names]
        position = self.position(client, where, **{"mid": hex_id(text, len(self.evil.seen))} | changes)
        return seal(text, readers, position, signer or account.keys.device)

    @staticmethod
    def conversation(client: ChatClient, room: str) -> Conversation:
        """A room, or ``@user``, as a client knows it."""
        conversations = client.core.conversations
        found = conversations.with_peer(room[1:]) if room.startswith("@") else conversations.get(room)
        assert found is not None, f"{client.name} is not in {room}"
        return found

    def position(self, client: ChatClient, where: str = "ops", **changes: Any) -> Position:
        """Where somebody's next message stands."""
        core, account, found = client.core, client.core.account, self.conversation(client, where)
        assert account is not None and core.outbox is not None
        turn = core.outbox._turns.get(found.id, Turn())
        fields: dict[str, Any] = {
            "room": found.id,
            "author": account.user,
            "dev": account.keys.dev,
            "dl": (account.own.version, account.own.digest),
            "ctr": turn.ctr + 1,
            "prev": turn.id,
            "mid": hex_id(client.name, where, turn.ctr),
            "head": "" if found.log is None else found.log.head,
            "th": found.reader.transcript.place,
            "at": core.now_ms(),
        }
        return Position(**fields | changes)

    def as_event(self, sealed: SealedMessage, sender: str, seq: int, reader: str = "bob", room: str = "ops") -> Said:
        """A package as the server hands it out, behind all events of the room's log."""
        header = parse_header(sealed.hdr)
        return {
            "event": "message",
            "room": room,
            "seq": seq,
            "sender": sender,
            "device": header.dev,
            "mid": header.mid,
            "ts": header.at,
            "events": len(self.evil.events[room]),
            "package": wire_package(sealed, reader),
        }

    def keys_of(self, client: ChatClient, user: str) -> AccountKeys:
        """Somebody's keys as a client knows them, or the server gives them to it."""
        account, people = client.core.account, client.core.people
        assert account is not None and people is not None
        known = account.own if user == account.user else people.known(user)
        if known is not None:
            return known
        reply = self.asked(client, m.Keys(users=(user,)))
        return verify_bundle(reply.keys[user], srv=SRV, user=user)

    def hand_in(self, client: ChatClient, sealed: SealedMessage, room: str = "ops") -> Any:
        """Sends a package on somebody's connection, past their client: the reply, or the refusal."""
        package = package_of(sealed)
        request: m.Request = m.Send(room=room, package=package)
        if room.startswith("@"):
            request = m.Pm(user=room[1:], package=package)
        return self.asked(client, request)

    def asked(self, client: ChatClient, request: m.Request) -> Any:
        """What the server answers to a request on somebody's connection, past their client."""
        answers: list[Any] = []
        Deferred.fromCoroutine(client.core.request(request)).addBoth(answers.append)
        self.settle()
        (answer,) = answers
        return answer.value if isinstance(answer, Failure) else answer


def changed(**fields: object) -> Callable[[Said], Said]:
    """A change of fields of a message's package."""
    return lambda said: {**said, "package": {**said["package"], **fields}}


def package_of(sealed: SealedMessage) -> m.Package:
    """A sealed message as part of a request."""
    return m.Package(
        encrypted_message=sealed.encrypted_message,
        encrypted_keys=dict(sealed.encrypted_keys),
        kids=dict(sealed.kids),
        hdr=sealed.hdr,
        bind=sealed.bind,
        sig=sealed.sig,
    )


class MessageCase(EvilCase):
    """Three people in an open room."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.carol = self.people("alice", "bob", "carol")

    def assertRead(self, *lines: str, by: ChatClient | None = None) -> None:
        """Just these messages, or lines for messages, were shown to bob since the last look."""
        self.assertEqual([*lines], self.messages(by or self.bob))

    def assertStopped(self, client: ChatClient, room: str = "ops") -> None:
        """Nothing is sent to a room until its owner says so, and that is said."""
        self.assertWaits(client, "/send may I?", f"Sending to {room} is stopped: ")
