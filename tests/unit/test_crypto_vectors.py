"""Our keys, our padding and our functions on whole published files: Wycheproof, Fernet's specification, NIST, RFCs.

RFC 9420's crypto-basics, and what an RFC shows once, stand in test_crypto_primitives.py. Every test counts the cases
that it ran.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections import Counter
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import passwords
from securechat.crypto import primitives as p
from securechat.crypto.envelope import OAEP
from securechat.errors import InvalidKey, WrongSecret
from tests.cast import figures
from tests.unit.test_crypto_primitives import hkdf_sha256

WYCHEPROOF: dict[str, Any] = figures("wycheproof")
SYMMETRIC: dict[str, Any] = figures("symmetric")
unhex = bytes.fromhex


def told(case: dict[str, Any]) -> str:
    """What a failure says of a case of Wycheproof."""
    return f"tcId {case['tcId']} {case['flags']}"


class OAEPTests(SynchronousTestCase):
    """How a message key is unwrapped, on Wycheproof's RSA-OAEP with 3072 bits, SHA-256 and MGF1 with SHA-256."""

    vectors = WYCHEPROOF["rsa_oaep"]

    def test_wycheproof(self) -> None:
        """What is valid without a label opens; every other ciphertext is refused, in one and the same way."""
        key = p.load_rsa_private(unhex(self.vectors["privateKeyPkcs8"]))
        outcomes: Counter[str] = Counter()
        refusals = set()
        for case in self.vectors["cases"]:
            sealed = unhex(case["ct"])
            if case["result"] == "valid" and not case["label"]:
                self.assertEqual(unhex(case["msg"]), key.decrypt(sealed, OAEP), told(case))
                outcomes["opened"] += 1
                continue
            error = self.assertRaises(ValueError, key.decrypt, sealed, OAEP)
            if len(sealed) == p.WRAPPED_BYTES:  # other lengths do not come so far
                refusals.add(str(error))
            outcomes["labelled" if case["label"] else "invalid"] += 1
        self.assertEqual({"opened": 10, "labelled": 8, "invalid": 19}, outcomes)
        self.assertEqual(1, len(refusals), refusals)

    def test_wrapping(self) -> None:
        """What the public half of that key wraps, its private half unwraps, whatever the length of the message."""
        key = p.load_rsa_private(unhex(self.vectors["privateKeyPkcs8"]))
        public = p.load_rsa_public(p.rsa_public_der(key.public_key()))
        messages = {unhex(case["msg"]) for case in self.vectors["cases"]}
        self.assertEqual(13, len(messages))
        for message in messages:
            self.assertEqual(message, key.decrypt(public.encrypt(message, OAEP), OAEP))


class Ed25519Tests(SynchronousTestCase):
    """Keys and signatures, on Wycheproof's Ed25519."""

    def test_wycheproof(self) -> None:
        """Valid signatures are taken, invalid ones are not, and no key of small order is loaded.

        A key of mixed order that its owner made is the owner's affair: either answer is right, says Wycheproof.
        """
        outcomes: Counter[str] = Counter()
        for case in WYCHEPROOF["ed25519"]["cases"]:
            public, message, signature = (unhex(case[name]) for name in ("pk", "msg", "sig"))
            if case["flags"] == ["SmallOrderPublicKey"]:
                self.assertRaises(InvalidKey, p.load_ed25519, public)
                outcomes["small order"] += 1
                continue
            try:
                p.load_ed25519(public).verify(signature, message)
            except InvalidSignature:
                self.assertIn(case["result"], ("invalid", "acceptable"), told(case))
            else:
                self.assertIn(case["result"], ("valid", "acceptable"), told(case))
            outcomes[case["result"]] += 1
        self.assertEqual({"valid": 117, "invalid": 64, "acceptable": 21, "small order": 8}, outcomes)

    def test_not_canonical(self) -> None:
        """The same keys with p added to y, where that fits, or one byte longer or shorter, are not loaded."""
        keys = {unhex(case["pk"]) for case in WYCHEPROOF["ed25519"]["cases"]}
        again = 0
        for key in keys:
            number = int.from_bytes(key, "little")
            if number % 2**255 < 19:
                self.assertRaises(InvalidKey, p.load_ed25519, (number + 2**255 - 19).to_bytes(32, "little"))
                again += 1
            self.assertRaises(InvalidKey, p.load_ed25519, key + b"\0")
            self.assertRaises(InvalidKey, p.load_ed25519, key[:-1])
        self.assertEqual((3, 85), (again, len(keys)))


class SealTests(SynchronousTestCase):
    """`seal` and `unseal`, on Wycheproof's ChaCha20-Poly1305."""

    def test_wycheproof(self) -> None:
        """Valid cases are sealed to these very bytes and opened; altered tags and other nonces are refused."""
        outcomes: Counter[str] = Counter()
        for case in WYCHEPROOF["chacha20_poly1305"]["cases"]:
            key, nonce, associated, plaintext, text, tag = (
                unhex(case[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")
            )
            sealed = nonce + text + tag
            if case["result"] == "valid":
                self.assertEqual(sealed, p.seal(key, plaintext, associated, nonce), told(case))
                self.assertEqual(plaintext, p.unseal(key, sealed, associated), told(case))
            else:
                self.assertRaises(WrongSecret, p.unseal, key, sealed, associated)
                if len(nonce) == p.NONCE_BYTES:
                    self.assertEqual(nonce + text, p.seal(key, plaintext, associated, nonce)[:-16], told(case))
                else:
                    self.assertRaises(ValueError, p.seal, key, plaintext, associated, nonce)
            outcomes[case["flags"][0] if case["result"] == "invalid" else "valid"] += 1
        self.assertEqual({"valid": 256, "ModifiedTag": 60, "InvalidNonceSize": 9}, outcomes)


class FernetTests(SynchronousTestCase):
    """The tokens that packages and rows at rest are, on Fernet's specification and on what it is made of."""

    vectors = SYMMETRIC["fernet"]

    def test_generate(self) -> None:
        """With the specification's IV and time, the token is the specification's."""
        self.assertEqual(1, len(self.vectors["generate"]))
        for case in self.vectors["generate"]:
            self.patch(os, "urandom", lambda size, iv=bytes(case["iv"]): iv[:size])
            now = int(datetime.fromisoformat(case["now"]).timestamp())
            token = Fernet(case["secret"]).encrypt_at_time(case["src"].encode(), now)
            self.assertEqual(case["token"], token.decode())

    def test_verify(self) -> None:
        """The specification's token opens, with its clock and without."""
        self.assertEqual(1, len(self.vectors["verify"]))
        for case in self.vectors["verify"]:
            now = int(datetime.fromisoformat(case["now"]).timestamp())
            fernet = Fernet(case["secret"])
            self.assertEqual(case["src"], fernet.decrypt_at_time(case["token"], case["ttl_sec"], now).decode())
            self.assertEqual(case["src"], fernet.decrypt(case["token"]).decode())

    def test_invalid(self) -> None:
        """No invalid token opens with a clock; without one, as we use it, those open that only the clock refuses."""
        opened = []
        for case in self.vectors["invalid"]:
            now = int(datetime.fromisoformat(case["now"]).timestamp())
            fernet = Fernet(case["secret"])
            self.assertRaises(InvalidToken, fernet.decrypt_at_time, case["token"], case["ttl_sec"], now)
            try:
                fernet.decrypt(case["token"])
            except InvalidToken:
                continue
            opened.append(case["desc"])
        self.assertEqual(["far-future TS (unacceptable clock skew)", "expired TTL"], opened)
        self.assertEqual(8, len(self.vectors["invalid"]))

    def test_aes(self) -> None:
        """NIST's AES-128-CBC comes out of a token, a block of padding behind it, and goes back into the plaintext."""
        cases = SYMMETRIC["aes_128_cbc"]["cases"]
        ivs = iter([unhex(case["iv"]) for case in cases])
        self.patch(os, "urandom", lambda size: next(ivs)[:size])
        signing = bytes(range(16))
        files: Counter[str] = Counter()
        for case in cases:
            plaintext = unhex(case["plaintext"])
            fernet = Fernet(base64.urlsafe_b64encode(signing + unhex(case["key"])))
            token = fernet.encrypt_at_time(plaintext, 0)
            body, mac = base64.urlsafe_b64decode(token)[:-32], base64.urlsafe_b64decode(token)[-32:]
            self.assertEqual("80" + "00" * 8 + case["iv"] + case["ciphertext"], body[:-16].hex())
            self.assertEqual(hmac.digest(signing, body, "sha256"), mac)
            self.assertEqual(plaintext, fernet.decrypt(token))
            files[case["file"].removeprefix("CBC").removesuffix("128")] += 1
        self.assertEqual({"GFSbox": 7, "KeySbox": 21, "VarKey": 128, "VarTxt": 128, "MMT": 20}, files)

    def test_hmac(self) -> None:
        """The library's HMAC-SHA256, which authenticates a token, and Python's own are RFC 4231's."""
        cases = SYMMETRIC["hmac_sha256"]["cases"]
        self.assertEqual(6, len(cases))
        for case in cases:
            key, message = unhex(case["key"]), unhex(case["msg"])
            mac = HMAC(key, SHA256())
            mac.update(message)
            self.assertEqual(case["mac"], mac.finalize().hex())
            self.assertEqual(case["mac"], hmac.digest(key, message, "sha256").hex())


class HKDFTests(SynchronousTestCase):
    """What derives keys, on Wycheproof's HKDF-SHA256, which begins with RFC 5869's cases."""

    def test_wycheproof(self) -> None:
        """An HKDF by hand and the library's give the published output, and `expand` is that by hand on its label.

        The info of `expand` has a form that no published case has: so the case's info is its context.
        """
        outcomes: Counter[str] = Counter()
        for case in WYCHEPROOF["hkdf"]["cases"]:
            ikm, salt, info, size = unhex(case["ikm"]), unhex(case["salt"]), unhex(case["info"]), case["size"]
            secret = hmac.digest(salt or bytes(32), ikm, "sha256")
            if case["result"] == "valid":
                self.assertEqual(case["okm"], hkdf_sha256(ikm, salt, info, size).hex(), told(case))
                self.assertEqual(case["okm"], HKDFExpand(SHA256(), size, info).derive(secret).hex(), told(case))
                ours = size.to_bytes(2, "big") + p.vec(b"MLS 1.0 label") + p.vec(info)
                expected = hkdf_sha256(secret, b"", ours, size, extract=False)
                self.assertEqual(expected, p.expand(secret, "label", info, size, prefix=b"MLS 1.0 "), told(case))
            else:
                self.assertRaises(ValueError, p.expand, secret, "label", info, size)
            outcomes[case["result"]] += 1
        self.assertEqual({"valid": 83, "invalid": 3}, outcomes)


class Argon2Tests(SynchronousTestCase):
    """What stretches a password, on vectors for Argon2id."""

    vectors = SYMMETRIC["argon2id"]["cases"]

    def test_library(self) -> None:
        """The library's Argon2id gives what RFC 9106, OpenSSL and the reference implementation give."""
        self.assertEqual(6, len(self.vectors))
        for case in self.vectors:
            kdf = Argon2id(
                salt=unhex(case["salt"]),
                length=case["length"],
                iterations=case["iterations"],
                lanes=case["lanes"],
                memory_cost=case["memory_kib"],
                ad=unhex(case["ad"]) or None,
                secret=unhex(case["secret"]) or None,
            )
            self.assertEqual(case["output"], kdf.derive(unhex(case["password"])).hex())

    def test_stretch(self) -> None:
        """`stretch` itself gives it for the cases of its own t, p and length, with only the memory changed."""
        self.assertEqual((3, 64 * 1024, 4), (passwords._ITERATIONS, passwords._MEMORY_KIB, passwords._LANES))
        ran = 0
        for case in self.vectors:
            if (case["iterations"], case["lanes"], case["length"], case["secret"]) == (3, 4, 32, ""):
                self.patch(passwords, "_MEMORY_KIB", case["memory_kib"])
                root = passwords.stretch(unhex(case["password"]).decode(), unhex(case["salt"])).root
                self.assertEqual(case["output"], root.hex())
                ran += 1
        self.assertEqual(2, ran)


class VectorLengthTests(SynchronousTestCase):
    """The header of `vec`, on the examples of RFC 9420, section 2.1.2."""

    def test_examples(self) -> None:
        """37, 15,293 and 494,878,333 bytes have these headers."""

        class Counted(bytes):
            """No bytes, which says that it has as many as the longest example."""

            def __len__(self) -> int:
                return 494_878_333

        self.assertEqual("25", p.vec(bytes(37))[:-37].hex())
        self.assertEqual("7bbd", p.vec(bytes(15_293))[:-15_293].hex())
        self.assertEqual("9d7f3e7d", p.vec(Counted()).hex())
