-- What the server remembers. Times are milliseconds since 1970, UTC; names are in canonical form.
-- Ids that clients write as 32 hex digits (devices, messages) are kept as their 16 bytes, for half as big indexes.

CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
    epoch TEXT NOT NULL, -- changes when what was acknowledged may be gone
    first_epoch TEXT NOT NULL, -- before any such change
    rotating INTEGER NOT NULL DEFAULT 0 CHECK (rotating IN (0, 1)), -- whether new keys are on their way to all rows
    secret BLOB NOT NULL, -- 32 random bytes, for salts of users who do not exist
    created INTEGER NOT NULL
) STRICT;

-- Data keys for what is sealed below, themselves wrapped by the key file. The newest seals, all open.
CREATE TABLE dek (
    id INTEGER PRIMARY KEY,
    wrapped BLOB NOT NULL,
    created INTEGER NOT NULL
) STRICT;

-- Users. Small columns first: those behind the big ones are slow to reach.
CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    suspended INTEGER NOT NULL DEFAULT 0 CHECK (suspended IN (0, 1)),
    deleted INTEGER NOT NULL DEFAULT 0, -- when; 0 if not. What others need to read its messages by stays
    quota INTEGER, -- bytes of messages it may have stored, 0: any; NULL: as the settings say
    kid TEXT NOT NULL, -- id of the newest RSA key, as messages must be sealed for it
    version INTEGER NOT NULL, -- of the device list
    notes INTEGER NOT NULL DEFAULT 0, -- how many ever came: the newest one's version
    list_digest BLOB NOT NULL, -- SHA-256 of the device list
    ik BLOB NOT NULL, -- the identity
    salt BLOB NOT NULL,
    password_hash TEXT NOT NULL,
    created INTEGER NOT NULL,
    password_changed INTEGER NOT NULL,
    keys_changed INTEGER NOT NULL,
    backup_version INTEGER NOT NULL,
    keys BLOB NOT NULL, -- the signed device list and its certificates, MessagePack
    backup_dek INTEGER NOT NULL REFERENCES dek,
    backup BLOB NOT NULL -- sealed by the client, and once more at rest: else its password could be guessed at
) STRICT;

-- Every device there ever was, for what it signed must stay readable: those in force; those that are not any more, of
-- former identities too; and those vouched for by what a client brought back to a server that had lost it.
CREATE TABLE device (
    number INTEGER PRIMARY KEY, -- newer devices have higher ones
    account_id INTEGER NOT NULL REFERENCES account,
    id BLOB NOT NULL,
    standing TEXT NOT NULL CHECK (standing IN ('in force', 'past', 'unlisted')),
    ik BLOB NOT NULL, -- the identity that certified it
    certificate BLOB NOT NULL, -- with its two signatures, MessagePack
    UNIQUE (account_id, id, ik)
) STRICT;

-- Notes that an account's devices share: sealed by them under names that the server cannot tell, and once more at rest.
CREATE TABLE note (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES account,
    name BLOB NOT NULL,
    version INTEGER NOT NULL, -- `account.notes` when it came
    size INTEGER NOT NULL, -- bytes as the client sent it
    dek_id INTEGER NOT NULL REFERENCES dek,
    sealed BLOB NOT NULL,
    UNIQUE (account_id, name)
) STRICT;

CREATE UNIQUE INDEX note_version ON note (account_id, version);
CREATE INDEX note_size ON note (account_id, size); -- counted at each write, and rows are long

-- Logins that may be resumed. Only hashes: who steals this table cannot log in with it.
CREATE TABLE session (
    token_hash BLOB PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES account,
    device BLOB, -- NULL until one is published
    created INTEGER NOT NULL,
    used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX session_account ON session (account_id);

CREATE TABLE invite (
    code_hash BLOB PRIMARY KEY,
    places INTEGER NOT NULL CHECK (places >= 0), -- left
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Rooms and private conversations; the latter's names begin with "pm:", which no room's can. An invite-only room that
-- nobody can enter any more gives up its name to the next one: "#" and its id stand behind it then.
CREATE TABLE conversation (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    private INTEGER NOT NULL CHECK (private IN (0, 1)), -- of two people, not a room
    open INTEGER NOT NULL CHECK (open IN (0, 1)), -- whether anybody may enter; 0 where private
    last_seq INTEGER NOT NULL, -- the newest message, 0 if none
    events INTEGER NOT NULL, -- how many there are in the room log; 0 where private
    members INTEGER NOT NULL CHECK (members >= 0), -- whose identity is in force: counting would walk them at every look
    room_id TEXT NOT NULL UNIQUE, -- hash of the room's first event; the name where private
    head BLOB NOT NULL, -- the newest link of the room log; empty where private
    th BLOB NOT NULL, -- the transcript after the newest message
    created INTEGER NOT NULL,
    topic_dek INTEGER REFERENCES dek,
    topic BLOB, -- sealed; NULL where there is none
    bytes INTEGER NOT NULL DEFAULT 0, -- of its messages: the sum of `message.size`
    quota INTEGER, -- bytes of messages it may have, 0: any; NULL: as the settings say
    retention INTEGER, -- days that messages are kept, 0: for ever; NULL: as the settings say
    trimmed_seq INTEGER NOT NULL DEFAULT 0, -- messages up to this one were removed, for they were too old
    trimmed_th BLOB, -- the transcript after that one
    removed INTEGER NOT NULL DEFAULT 0 CHECK (removed IN (0, 1)), -- by the operator: its messages are on their way out
    CHECK (private = (substr(name, 1, 3) = 'pm:'))
) STRICT;

CREATE INDEX conversation_removed ON conversation (id) WHERE removed = 1;

-- Who is in a conversation: an identity, not merely a name. One whose account has another identity by now is no member.
CREATE TABLE member (
    conversation_id INTEGER NOT NULL REFERENCES conversation,
    account_id INTEGER NOT NULL REFERENCES account,
    first_seq INTEGER NOT NULL, -- the newest message when they joined
    read_seq INTEGER NOT NULL, -- the read marker
    ik BLOB NOT NULL,
    PRIMARY KEY (conversation_id, account_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX member_account ON member (account_id);

-- Open invitations into rooms; as with members, of an identity.
CREATE TABLE invitation (
    account_id INTEGER NOT NULL REFERENCES account,
    conversation_id INTEGER NOT NULL REFERENCES conversation,
    ik BLOB NOT NULL,
    PRIMARY KEY (account_id, conversation_id, ik)
) STRICT, WITHOUT ROWID;

CREATE INDEX invitation_conversation ON invitation (conversation_id);

-- Who has no voice in a room, until when (milliseconds; 0: for ever), members or not.
CREATE TABLE mute (
    conversation_id INTEGER NOT NULL REFERENCES conversation,
    account_id INTEGER NOT NULL REFERENCES account,
    until INTEGER NOT NULL,
    PRIMARY KEY (conversation_id, account_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX mute_account ON mute (account_id);

-- Room logs: the signed events as they came, sealed; who is in a room, and with which rights, follows from them alone.
CREATE TABLE room_event (
    id INTEGER PRIMARY KEY,
    conversation_id INTEGER NOT NULL REFERENCES conversation,
    number INTEGER NOT NULL, -- from 1, without gaps
    author_id INTEGER NOT NULL REFERENCES account,
    seq INTEGER NOT NULL, -- the newest message before it
    eh BLOB NOT NULL, -- its hash
    dek_id INTEGER NOT NULL REFERENCES dek,
    sealed BLOB NOT NULL,
    UNIQUE (conversation_id, number),
    UNIQUE (conversation_id, eh)
) STRICT;

CREATE INDEX room_event_author ON room_event (author_id);

-- Who messages were sealed for: the bytes of `crypto.envelope.audience`, sealed at rest, once a conversation.
CREATE TABLE audience (
    id INTEGER PRIMARY KEY,
    conversation_id INTEGER NOT NULL REFERENCES conversation,
    rcp BLOB NOT NULL, -- the digest of those bytes
    dek_id INTEGER NOT NULL REFERENCES dek,
    sealed BLOB NOT NULL,
    UNIQUE (conversation_id, rcp)
) STRICT;

-- Bodies of messages: those of one conversation that one commit stored, sealed together, with all that their rows say of
-- them; so a row moved by hand is refused. They have consecutive numbers.
CREATE TABLE segment (
    id INTEGER PRIMARY KEY,
    conversation_id INTEGER NOT NULL REFERENCES conversation,
    first_seq INTEGER NOT NULL,
    dek_id INTEGER NOT NULL REFERENCES dek,
    sealed BLOB NOT NULL,
    UNIQUE (conversation_id, first_seq)
) STRICT;

-- Messages. A rowid table with narrow indexes: clustering them by (conversation, seq) made storing 8 times slower.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    conversation_id INTEGER NOT NULL REFERENCES conversation,
    seq INTEGER NOT NULL, -- from 1, without gaps
    sender_id INTEGER NOT NULL REFERENCES account,
    device BLOB NOT NULL,
    mid BLOB NOT NULL, -- the client's message id
    ts INTEGER NOT NULL,
    events INTEGER NOT NULL, -- of the room log, before it; 0 where private
    body_hash BLOB NOT NULL, -- tells a resend from another message of the same mid
    digest BLOB NOT NULL, -- what names the message in `prev` and in transcripts
    th BLOB NOT NULL, -- the transcript after it
    size INTEGER NOT NULL, -- bytes of its body and of its keys, as quotas count them; 0 without a body
    -- These two have no REFERENCES: to let go of what is removed, SQLite would look through all messages each time.
    audience_id INTEGER, -- NULL where the package has no part of its own for each reader
    segment_id INTEGER, -- NULL where the body was removed, and the row tells a resend of its device's last message
    UNIQUE (conversation_id, seq),
    UNIQUE (sender_id, device, mid)
) STRICT;

-- The wrapped keys of each message: 384 bytes a reader, in the order of its audience. A table of its own, so that
-- reading bodies does not walk them; not sealed again, for they are RSA ciphertext.
CREATE TABLE message_keys (
    message_id INTEGER PRIMARY KEY REFERENCES message,
    slots BLOB NOT NULL
) STRICT;

-- The last message of each device in each conversation: the next must have one number more, and name it. Behind a change
-- of the epoch messages may be gone: then any higher number is taken once.
CREATE TABLE counter (
    account_id INTEGER NOT NULL REFERENCES account,
    device BLOB NOT NULL,
    conversation_id INTEGER NOT NULL REFERENCES conversation,
    last INTEGER NOT NULL,
    seq INTEGER NOT NULL, -- where that message is
    digest BLOB NOT NULL, -- its `message.digest`
    epoch TEXT NOT NULL, -- in which it came
    bytes INTEGER NOT NULL DEFAULT 0, -- that this device has stored there: the sum of `message.size`
    PRIMARY KEY (account_id, device, conversation_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX counter_conversation ON counter (conversation_id);
