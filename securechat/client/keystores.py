"""The keystore of a profile: made, opened with a password, given other keys."""

from __future__ import annotations

import contextlib
import secrets
from typing import Final

from securechat.client.openaccount import OpenAccount, WrongPassword
from securechat.client.profile import Profile
from securechat.client.workshop import Workshop
from securechat.crypto import keystore as ks
from securechat.crypto import primitives as p
from securechat.crypto.passwords import Stretched, stretch
from securechat.errors import WrongSecret

ELSEWHERE: Final = "log in with the new one from an empty directory: securechat --data-dir NEW_DIR CONNECT_LINE"


def new_slot(profile: Profile, data_key: bytes, stretched: Stretched) -> ks.Slot:
    """A slot that a password opens, for a keystore that has this data key."""
    return ks.make_slot(
        profile.srv,
        profile.user,
        stretched.salt,
        stretched.keystore_key(),
        data_key,
        secrets.token_bytes(p.NONCE_BYTES),
    )


def new_keystore(profile: Profile, keys: ks.ProfileKeys, data_key: bytes, stretched: Stretched) -> ks.Keystore:
    """A keystore of these keys, which one password opens."""
    box = ks.make_box(profile.srv, profile.user, keys, data_key, secrets.token_bytes(p.NONCE_BYTES))
    return ks.Keystore(profile.srv, profile.user, (new_slot(profile, data_key, stretched),), box)


async def open_keystore(shop: Workshop, keystore: ks.Keystore, password: str) -> tuple[ks.Slot, bytes, Stretched]:
    """The slot that a password opens, the data key in it, and the password stretched. Raises WrongPassword."""
    for slot in reversed(keystore.slots):
        stretched = await shop.run(stretch, password, slot.salt)
        with contextlib.suppress(WrongSecret):
            return slot, keystore.open_slot(slot, stretched.keystore_key()), stretched
    raise WrongPassword(
        f"That is not the password of {keystore.user} on this machine: the keys here do not open. If it was changed on"
        f" another machine, or reset by the operator, {ELSEWHERE}."
    )


def adopt_keys(account: OpenAccount, keys: ks.ProfileKeys) -> None:
    """Keeps other keys in the profile's keystore, on disk when done."""
    profile, data_key = account.profile, account.data_key
    box = ks.make_box(profile.srv, profile.user, keys, data_key, secrets.token_bytes(p.NONCE_BYTES))
    account.keystore = ks.Keystore(profile.srv, profile.user, account.keystore.slots, box)
    profile.write_keystore(account.keystore)
    account.keys = keys
