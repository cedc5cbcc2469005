"""Carrying a profile's keys from machine to machine in a file, sealed with a passphrase."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from securechat.client.openaccount import OpenAccount
from securechat.client.profile import Profile
from securechat.client.store import LocalStore
from securechat.client.workshop import Workshop
from securechat.crypto import primitives as p
from securechat.crypto.keystore import Keystore
from securechat.crypto.passwords import SALT_BYTES, stretch
from securechat.errors import InvalidKey, SecureChatError, WrongSecret
from securechat.private_files import write_private
from securechat.wire.names import fold_user

_LABEL = "export"


class CannotTransfer(SecureChatError):
    """The file cannot be read or written, or the keys have no place here; the text says why."""


async def export_keys(shop: Workshop, account: OpenAccount, path: Path, passphrase: str) -> None:
    """Writes the keystore and the local store's sealed records. The file replaces none that is there.

    Raises:
        CannotTransfer: it is there already, or cannot be written.
    """
    try:
        there = path.exists()
    except OSError as error:
        raise CannotTransfer(f"{path} cannot be written: {error.strerror}.") from None
    if there:
        raise CannotTransfer(f"{path} is there already. Name another file.")
    sealing = await shop.run(stretch, passphrase, secrets.token_bytes(SALT_BYTES))
    records = [[p.b64(filed), p.b64(sealed)] for filed, sealed in await account.store.dump()]
    plain = json.dumps({"keystore": account.keystore.to_bytes().decode("ascii"), "records": records})
    nonce = secrets.token_bytes(p.NONCE_BYTES)
    sealed_part = p.seal(sealing.keystore_key(), plain.encode("ascii"), p.digest(_LABEL, sealing.salt), nonce)
    content = json.dumps({"t": "sc/export", "v": 1, "salt": p.b64(sealing.salt), "sealed": p.b64(sealed_part)})
    try:
        write_private(path, content.encode("ascii") + b"\n")
    except OSError as error:
        raise CannotTransfer(f"{path} cannot be written: {error.strerror}.") from None
    except ValueError:  # a name with a NUL in it
        raise CannotTransfer(f"{path} cannot be the name of a file.") from None


async def import_keys(shop: Workshop, path: Path, passphrase: str) -> Profile:
    """Makes a profile of an exported file.

    Raises:
        CannotTransfer: no such file, or this machine has keys of that account already.
        WrongSecret: another passphrase.
    """
    try:
        outer = json.loads(path.read_bytes())
        if outer["t"] != "sc/export" or outer["v"] != 1:
            raise CannotTransfer(f"{path} was made by a newer client.")
        salt, sealed_part = p.unb64(outer["salt"]), p.unb64(outer["sealed"])
        if len(salt) != SALT_BYTES:
            raise InvalidKey("a salt has 16 bytes")
    except OSError as error:
        raise CannotTransfer(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidKey):
        raise CannotTransfer(f"{path} is not a file of /keys export.") from None
    opening = await shop.run(stretch, passphrase, salt)
    try:
        plain = p.unseal(opening.keystore_key(), sealed_part, p.digest(_LABEL, salt))
    except WrongSecret:
        raise WrongSecret(f"That is not the passphrase of {path}.") from None
    try:
        inner = json.loads(plain)
        keystore = Keystore.from_bytes(inner["keystore"].encode("ascii"))
        rows = [(p.unb64(filed), p.unb64(sealed)) for filed, sealed in inner["records"]]
        # Whoever made the file knew the passphrase; still these two become names of directories.
        if len(p.unb64url(keystore.srv)) != 32 or fold_user(keystore.user) != keystore.user:
            raise InvalidKey("these are no names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidKey):
        raise CannotTransfer(f"{path} holds no keys that can be used here.") from None
    profile = shop.directory.profile(keystore.srv, keystore.user)
    if profile.exists():
        raise CannotTransfer(f"This machine has keys of {keystore.user} already, in {profile.path}.")
    profile.make()
    await LocalStore.make(profile.database, rows, reactor=shop.reactor, pool=shop.pool)
    profile.write_keystore(keystore)
    return profile
