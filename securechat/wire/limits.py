"""The one table of protocol limits. A setting may narrow some of them; PacketDiagram.md lists all."""

from typing import Final

PROTOCOL_VERSION: Final = 1

MAX_LINE_GREETED: Final = 16 * 1024  # before login nothing long is legitimate
MAX_LINE_REGISTER: Final = 64 * 1024  # a registration carries keys and a sealed backup
MAX_LINE: Final = 1024 * 1024  # a v1 package for 1,000 recipients takes 0.6 MiB
MAX_DEPTH: Final = 8  # of JSON; ours needs 5

MAX_TEXT: Final = 16 * 1024  # bytes of UTF-8 in one message
MAX_TOKEN: Final = 21_944  # characters of the Fernet token of MAX_TEXT bytes: base64(57 + 16,400)
MAX_CIPHERTEXT: Final = 18_432  # bytes of a v2 ciphertext: MAX_TEXT, padded by at most 12 %, and its tag
MAX_MEMBERS: Final = 1000  # recipients of a v1 package, so members of a room
MAX_BACKUP: Final = 256 * 1024  # bytes of a sealed backup; that of a registration must fit its line
MAX_CERTIFICATE: Final = 1024  # bytes of a signed device certificate
MAX_DEVICE_LIST: Final = 8192  # bytes of a signed device list; it names up to 100 earlier keys
MAX_PAST: Final = 100  # certificates of devices in force no more that come along
MAX_HEADER: Final = 2048  # bytes of a message's signed header
MAX_EVENT: Final = 2048  # bytes of a signed room event
EVENTS_PER_PAGE: Final = 256  # of a room log
MAX_DEVICES: Final = 10  # of an account
MAX_ROOMS: Final = 500  # of an account
MAX_NOTE: Final = 24 * 1024  # bytes of a sealed note: the draft of a whole message, and a settings file
MAX_NOTES: Final = 600  # of an account: a draft for each room it may be in, and some more
MAX_NOTES_BYTES: Final = 1024 * 1024  # of all notes of an account: one may not keep files here

HISTORY_DEFAULT: Final = 50
HISTORY_MAX: Final = 200
PAGE_BYTES: Final = 256 * 1024  # a history page ends here even before its count
KEYS_PER_REQUEST: Final = 50

PENDING_SENDS: Final = 64  # sends of one connection that may await their commit together
PAUSE_READING: Final = 64 * 1024  # bytes of undispatched lines after which a connection is not read
SEND_QUEUE: Final = 4 * 1024 * 1024  # bytes a slow reader may fall behind
SEND_QUEUE_ALL: Final = 512 * 1024 * 1024  # the same, over all connections
LINES_PER_TURN: Final = 256  # lines of one connection dispatched before the others get a turn

AUTH_SECONDS: Final = 10.0  # from connect to login, TLS handshake included
SILENCE_SECONDS: Final = 60.0  # a connection without a byte for so long is dead
PING_SECONDS: Final = 25.0  # a client's silence before it pings
ABORT_SECONDS: Final = 5.0  # a TLS close that the peer does not answer
DRAIN_SECONDS: Final = 10.0  # SIGTERM to exit

LOGINS_PER_ACCOUNT: Final = 5  # a minute, account and address
LOGINS_PER_ADDRESS: Final = 20  # a minute
HASH_QUEUE: Final = 32  # password checks waiting
MESSAGES_PER_SECOND: Final = 20.0
MESSAGE_BURST: Final = 60.0
REQUESTS_PER_SECOND: Final = 50.0  # of one connection, other than messages
REQUEST_BURST: Final = 200.0
MEMBERSHIP_PER_SECOND: Final = 0.5  # acts of one account, and events it gives back: each stays in a log for ever
MEMBERSHIP_BURST: Final = 100.0
ACTS_PER_HOUR: Final = 6.0  # joins, leaves and invitations of one account in one room: each stays in its log for ever
PUBLISH_PER_HOUR: Final = 10.0  # device lists of one account: each goes to all its contacts, its devices stay for ever
PUBLISH_BURST: Final = 10.0  # every device that an account may have, in one afternoon
NOTES_PER_SECOND: Final = 1.0  # of one account: each is a write that nobody but its own devices reads
NOTE_BURST: Final = 100.0  # what a client kept back while it was away
TYPING_SECONDS: Final = 3.0  # between two words of one device that somebody types in a conversation
TYPING_SHOWN: Final = 6.0  # that a reader shows it: two such times, or one lost word would end it
TYPING_PER_SECOND: Final = 2.0  # of one conversation: nobody reads who of twenty is typing
TYPING_BURST: Final = 10.0
CONNECTIONS_PER_ADDRESS: Final = 64  # loopback: no limit
