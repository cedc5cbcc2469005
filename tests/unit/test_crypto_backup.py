"""Tests for the sealed backup and recovery codes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import primitives as p
from securechat.crypto.backup import (
    AccountSecrets,
    code_key,
    format_code,
    needs_code,
    open_backup,
    parse_code,
    seal_backup,
)
from securechat.errors import WrongSecret
from tests.cast import SRV, flipped, load_checked_before, rsa_key, signing_key

KEY = b"k" * 32
PINS = {"bob": {"ik": p.b64(b"i" * 32), "seen": 1, "ver": 2, "digest": "00"}}
SECRETS = AccountSecrets(signing_key("alice"), (rsa_key(),), 3, PINS)
PLACE: dict[str, Any] = {"srv": SRV, "user": "alice", "version": 7}


def sealed(secrets: AccountSecrets = SECRETS, **changes: Any) -> bytes:
    """A backup of alice's."""
    return seal_backup(KEY, secrets, **(PLACE | {"nonce": b"n" * 12} | changes))


def without_keys(pins: int) -> AccountSecrets:
    """Secrets of about a size: `pins` names in them."""
    return AccountSecrets(signing_key("alice"), (), 1, {f"user{number:04}": {"seen": 1} for number in range(pins)})


class SealedBackupTests(SynchronousTestCase):
    """Tests for `seal_backup` and `open_backup`."""

    def setUp(self) -> None:
        self.patch(p, "load_rsa_private", load_checked_before)

    blob = sealed()

    def refuse(self, key: bytes, blob: bytes, **changes: Any) -> None:
        """It does not open."""
        self.assertRaises(WrongSecret, open_backup, key, blob, **(PLACE | changes))

    def test_round_trip(self) -> None:
        """All that was sealed comes back."""
        opened = open_backup(KEY, self.blob, **PLACE)
        self.assertEqual(p.ed25519_seed(SECRETS.identity), p.ed25519_seed(opened.identity))
        self.assertEqual([rsa_key().private_numbers()], [key.private_numbers() for key in opened.rsa_keys])
        self.assertEqual((3, PINS), (opened.list_version, opened.pins))

    def test_wrong_key(self) -> None:
        """Another password's key does not open it."""
        self.refuse(b"x" * 32, self.blob)

    def test_bound_to_its_place(self) -> None:
        """Another version, user or server: an older one cannot pass for a newer."""
        self.refuse(KEY, self.blob, version=6)
        self.refuse(KEY, self.blob, version=8)
        self.refuse(KEY, self.blob, user="bob")
        self.refuse(KEY, self.blob, srv="B" * 43)

    def test_altered(self) -> None:
        """One bit changed anywhere, its kind included, or bytes lost, and it does not open."""
        for bit in (*range(8 * 40), *range(320, 8 * len(self.blob), 997), 8 * len(self.blob) - 1):
            self.refuse(KEY, flipped(self.blob, bit))
        for end in (0, 1, 12, 28, len(self.blob) - 1):
            self.refuse(KEY, self.blob[:end])

    def test_kind(self) -> None:
        """It says in clear whether it wants the password or a recovery code, and cannot be made to say the other."""
        by_code = sealed(by_code=True)
        self.assertEqual((False, True), (needs_code(self.blob), needs_code(by_code)))
        self.refuse(KEY, b"c" + self.blob[1:])
        self.refuse(KEY, b"p" + by_code[1:])
        self.assertFalse(needs_code(b""))

    def test_padding(self) -> None:
        """Its size goes in steps of 4 KiB and tells nothing finer."""
        sizes = [len(sealed(without_keys(pins))) - 1 - 12 - 16 for pins in range(0, 400, 7)]
        self.assertEqual({0}, {size % 4096 for size in sizes})
        self.assertEqual(sizes, sorted(sizes))
        self.assertGreater(len(set(sizes)), 2)
        self.assertEqual(4096, sizes[0])

    def test_every_size_around_a_step(self) -> None:
        """Whatever the size, what was sealed comes back, also where it fills a step exactly."""
        steps = set()
        for more in range(20):
            secrets = AccountSecrets(signing_key("alice"), (), 1, {"x" * (3980 + more): {}})
            blob = sealed(secrets)
            steps.add((len(blob) - 29) // 4096)
            self.assertEqual(secrets.pins, open_backup(KEY, blob, **PLACE).pins)
        self.assertEqual({1, 2}, steps)

    def test_holds_no_keys(self) -> None:
        """What opens but is no backup is refused as well."""
        context = p.digest("backup", b"p", SRV.encode(), b"alice", (7).to_bytes(8, "big"))
        good = {"ik": p.b64(bytes(32)), "rks": [], "ver": 1, "pins": {}}
        for body in (
            b"", b"x", b"[]", b"1", b"{}", b"\xff", b"[" * 100_000, json.dumps(good | {"ik": "x"}).encode(),
            json.dumps(good | {"rks": ["AAAA"]}).encode(), json.dumps(good | {"rks": 1}).encode(),
            json.dumps(good | {"ver": "x"}).encode(), json.dumps(good | {"pins": 1}).encode(),
        ):  # fmt: skip
            padded = len(body).to_bytes(4, "big") + body
            self.refuse(KEY, b"p" + p.seal(KEY, padded, context, b"n" * 12))

    def test_with_pins(self) -> None:
        """Newer public knowledge replaces the old, and nothing else."""
        newer = SECRETS.with_pins({}, 9)
        self.assertEqual(({}, 9), (newer.pins, newer.list_version))
        self.assertIs(SECRETS.identity, newer.identity)
        self.assertEqual(3, SECRETS.list_version)

    def test_repr(self) -> None:
        """Its repr gives away nothing."""
        self.assertEqual("<AccountSecrets>", repr(SECRETS))


class RecoveryCodeTests(SynchronousTestCase):
    """Tests for codes that people write down."""

    secret = bytes(range(16))
    code = format_code(secret)

    def test_form(self) -> None:
        """Seven groups of four, without letters that look like digits."""
        self.assertRegex(self.code, r"^([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}\Z")

    @settings(max_examples=100, deadline=None, database=None, derandomize=True)
    @given(st.binary(min_size=16, max_size=16))
    def test_round_trip(self, secret: bytes) -> None:
        """Every secret comes back."""
        self.assertEqual(secret, parse_code(format_code(secret)))

    def test_as_people_type(self) -> None:
        """Case, hyphens, spaces and look-alikes are forgiven."""
        for typed in (
            self.code.lower(),
            self.code.replace("-", ""),
            self.code.replace("-", " "),
            f" {self.code} ",
            self.code.replace("0", "O").replace("1", "I"),
            self.code.lower().replace("0", "o").replace("1", "l"),
        ):
            self.assertEqual(self.secret, parse_code(typed))
        self.assertIn("0", self.code)
        self.assertIn("1", format_code(b"\x08" + bytes(15)))

    def test_every_wrong_character(self) -> None:
        """One wrong character anywhere is noticed, but for the one in 4096 that the checksum cannot see."""
        alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        missed = tried = 0
        digits = self.code.replace("-", "")
        for at, digit in enumerate(digits):
            for wrong in alphabet:
                if wrong != digit:
                    tried += 1
                    try:
                        parse_code(digits[:at] + wrong + digits[at + 1 :])
                    except WrongSecret:
                        continue
                    missed += 1
        self.assertEqual(28 * 31, tried)
        self.assertLessEqual(missed, 2)

    def test_swapped_neighbours(self) -> None:
        """Two neighbours swapped are noticed."""
        digits = self.code.replace("-", "")
        for at in range(27):
            swapped = digits[:at] + digits[at + 1] + digits[at] + digits[at + 2 :]
            if swapped != digits:
                self.assertRaises(WrongSecret, parse_code, swapped)

    def test_not_a_code(self) -> None:
        """Other lengths and characters are refused, with how a code looks."""
        for typed in (
            "",
            self.code[:-1],
            self.code + "0",
            self.code[:-1] + "U",
            self.code[:-1] + "é",
            "ß" * 28,
            "\0" * 28,
        ):
            error = self.assertRaises(WrongSecret, parse_code, typed)
            self.assertIn("seven groups of four", str(error))

    def test_opens_a_backup(self) -> None:
        """A backup under a code opens with that code alone."""
        key = code_key(self.secret)
        blob = seal_backup(key, without_keys(1), **PLACE, nonce=b"n" * 12, by_code=True)
        self.assertEqual(1, open_backup(code_key(parse_code(self.code)), blob, **PLACE).list_version)
        other = code_key(self.secret[:-1] + b"\0")
        self.assertRaises(WrongSecret, open_backup, other, blob, **PLACE)
