"""Tests for labels, signatures and key checks: published vectors first, then hostile input."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto import primitives as p
from securechat.crypto.backup import code_key
from securechat.errors import InvalidKey, WrongSecret
from tests.cast import figures, flipped, rsa_key, rsa_public, signing_key

MLS = b"MLS 1.0 "
unhex = bytes.fromhex


def hkdf_sha256(ikm: bytes, salt: bytes, info: bytes, length: int, *, extract: bool = True) -> bytes:
    """HKDF as RFC 5869 writes it down, from HMAC alone."""
    key = hmac.digest(salt or bytes(32), ikm, "sha256") if extract else ikm
    output = block = b""
    while len(output) < length:
        block = hmac.digest(key, block + info + bytes([len(output) // 32 + 1]), "sha256")
        output += block
    return output[:length]


class PublishedVectorTests(SynchronousTestCase):
    """This very code, on figures that others published."""

    published = figures("published")

    def basics(self, function: str) -> Iterator[dict[str, Any]]:
        """The cases of one function in RFC 9420's file."""
        for suite in self.published["rfc9420_crypto_basics"]["cases"]:
            if function in suite:
                yield suite[function]

    def test_expand_with_label(self) -> None:
        """`expand` is RFC 9420's ExpandWithLabel."""
        for case in self.basics("expand_with_label"):
            output = p.expand(unhex(case["secret"]), case["label"], unhex(case["context"]), case["length"], prefix=MLS)
            self.assertEqual(case["out"], output.hex())

    def test_derive_secret(self) -> None:
        """With an empty context it is DeriveSecret."""
        for case in self.basics("derive_secret"):
            self.assertEqual(case["out"], p.expand(unhex(case["secret"]), case["label"], b"", 32, prefix=MLS).hex())

    def test_derive_tree_secret(self) -> None:
        """With a generation as the context it is DeriveTreeSecret."""
        for case in self.basics("derive_tree_secret"):
            generation = case["generation"].to_bytes(4, "big")
            output = p.expand(unhex(case["secret"]), case["label"], generation, case["length"], prefix=MLS)
            self.assertEqual(case["out"], output.hex())

    def test_ref_hash(self) -> None:
        """`digest` of a label and one part is RefHash."""
        for case in self.basics("ref_hash"):
            self.assertEqual(case["out"], p.digest(case["label"], unhex(case["value"])).hex())

    def test_sign_with_label(self) -> None:
        """`sign` and `verify` are SignWithLabel and VerifyWithLabel."""
        for case in self.basics("sign_with_label"):
            content, signature = unhex(case["content"]), unhex(case["signature"])
            key = p.ed25519_from_seed(unhex(case["priv"]))
            self.assertEqual(signature, p.sign(key, case["label"], content, prefix=MLS))
            p.verify(unhex(case["pub"]), case["label"], content, signature, prefix=MLS)
            self.assertRaises(InvalidKey, p.verify, unhex(case["pub"]), case["label"], content, signature)

    def test_every_function_has_cases(self) -> None:
        """None of the tests above goes through an empty list."""
        functions = ("expand_with_label", "derive_secret", "derive_tree_secret", "ref_hash", "sign_with_label")
        self.assertEqual([3, 3, 3, 3, 2], [len(list(self.basics(function))) for function in functions])

    def test_aead(self) -> None:
        """`seal` is ChaCha20-Poly1305, the nonce in front; `unseal` opens it."""
        case = self.published["rfc8439_aead"]
        key, nonce, aad, plaintext = (unhex(case[name]) for name in ("key", "nonce", "aad", "plaintext"))
        sealed = p.seal(key, plaintext, aad, nonce)
        self.assertEqual(case["nonce"] + case["ciphertext"] + case["tag"], sealed.hex())
        self.assertEqual(plaintext, p.unseal(key, sealed, aad))

    def test_hkdf(self) -> None:
        """What derives keys here agrees with an HKDF that reproduces RFC 5869."""
        for case in self.published["rfc5869_hkdf"]["cases"]:
            output = hkdf_sha256(unhex(case["ikm"]), unhex(case["salt"]), unhex(case["info"]), case["length"])
            self.assertEqual(case["okm"], output.hex())
        secret = bytes(range(16))
        self.assertEqual(hkdf_sha256(secret, b"", b"SecureChat 1 recovery code", 32), code_key(secret))
        info = b"\x00\x50" + b"\x12SecureChat 1 label" + b"\x07context"
        self.assertEqual(
            hkdf_sha256(bytes(32), b"", info, 80, extract=False), p.expand(bytes(32), "label", b"context", 80)
        )

    def test_ed25519_keys(self) -> None:
        """A seed gives the public key of RFC 8032, and comes back."""
        for case in self.published["rfc8032_ed25519"]["cases"]:
            key = p.ed25519_from_seed(unhex(case["seed"]))
            self.assertEqual(case["public"], p.ed25519_public(key).hex())
            self.assertEqual(case["seed"], p.ed25519_seed(key).hex())


class VectorTests(SynchronousTestCase):
    """Tests for `vec` and `digest`."""

    def test_headers(self) -> None:
        """The header is as short as can be: RFC 9420 allows no other."""
        for size, header in ((0, "00"), (63, "3f"), (64, "4040"), (16383, "7fff"), (16384, "80004000")):
            self.assertEqual(unhex(header) + bytes(size), p.vec(bytes(size)), size)

    def test_parts_are_apart(self) -> None:
        """Bytes that move from one part to the next, or an empty part more, give another digest."""
        digests = {p.digest("a", b"bc", b"d"), p.digest("a", b"b", b"cd"), p.digest("ab", b"c", b"d")}
        digests |= {p.digest("a", b"bcd"), p.digest("a", b"bc", b"d", b""), p.digest("a", b"", b"bc", b"d")}
        self.assertEqual(6, len(digests))

    def test_digest_by_hand(self) -> None:
        """It is SHA-256 over label and parts, each with its length."""
        self.assertEqual(hashlib.sha256(b"\x02pm\x01a\x02bc").digest(), p.digest("pm", b"a", b"bc"))


class SignatureTests(SynchronousTestCase):
    """Tests for `sign` and `verify`."""

    key = signing_key("signer")
    public = p.ed25519_public(key)

    def test_every_bit_of_a_signature_counts(self) -> None:
        """A signature with any one bit changed is refused."""
        signature = p.sign(self.key, "room", b"content")
        for bit in range(512):
            self.assertRaises(InvalidKey, p.verify, self.public, "room", b"content", flipped(signature, bit))

    def test_bound_to_all_it_covers(self) -> None:
        """Another key, label, prefix or content is refused."""
        signature = p.sign(self.key, "room", b"content")
        p.verify(self.public, "room", b"content", signature)
        other = p.ed25519_public(signing_key("other"))
        self.assertRaises(InvalidKey, p.verify, other, "room", b"content", signature)
        self.assertRaises(InvalidKey, p.verify, self.public, "device", b"content", signature)
        self.assertRaises(InvalidKey, p.verify, self.public, "room", b"content ", signature)
        self.assertRaises(InvalidKey, p.verify, self.public, "room", b"content", signature, prefix=b"SecureChat 2 ")

    def test_label_and_content_are_apart(self) -> None:
        """A byte that moves from the label to the content is refused."""
        signature = p.sign(self.key, "room", b"content")
        self.assertRaises(InvalidKey, p.verify, self.public, "roomc", b"ontent", signature)

    def test_signature_of_another_length(self) -> None:
        """A signature cut short or made longer is refused, as is an empty one."""
        signature = p.sign(self.key, "room", b"content")
        for wrong in (b"", signature[:-1], signature + b"\0", signature * 2):
            self.assertRaises(InvalidKey, p.verify, self.public, "room", b"content", wrong)


# --- the curve of Ed25519, by hand --------------------------------------------------------------------------------

FIELD = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, FIELD) % FIELD

Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """The sum of two points (RFC 8032, section 5.1; the complete law of a twisted Edwards curve)."""
    product = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, FIELD)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, FIELD)
    return x % FIELD, y % FIELD


def times(factor: int, point: Point) -> Point:
    """A multiple of a point."""
    total = (0, 1)
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


def some_point(y: int) -> Point | None:
    """The point with this y and an even x, where there is one."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, FIELD) % FIELD
    x = pow(square, (FIELD + 3) // 8, FIELD)
    if x * x % FIELD != square:
        x = x * pow(2, (FIELD - 1) // 4, FIELD) % FIELD
    if x * x % FIELD != square:
        return None
    return (x if x % 2 == 0 else FIELD - x), y


def torsion() -> set[Point]:
    """All points whose order divides 8: ORDER times a point leaves nothing else of it."""
    for y in range(2, 100):
        point = some_point(y)
        if point is not None:
            generator = times(ORDER, point)
            if times(4, generator) != (0, 1):
                return {times(factor, generator) for factor in range(8)}
    raise AssertionError("no point of order 8 found")


class Ed25519KeyTests(SynchronousTestCase):
    """Tests for `load_ed25519`."""

    def test_small_order(self) -> None:
        """Every encoding of every point of small order is refused: such a key verifies what nobody signed."""
        points = torsion()
        self.assertEqual(8, len(points))
        encodings = set()
        for _, y in points:
            for representative in range(y, 2**255, FIELD):
                for sign in (0, 1):
                    encodings.add((representative | sign << 255).to_bytes(32, "little"))
        self.assertEqual(14, len(encodings))  # two signs of five values of y, and of y + p for 0 and 1
        for encoding in encodings:
            self.assertRaises(InvalidKey, p.load_ed25519, encoding)

    def test_forgery_with_a_small_order_key(self) -> None:
        """The all-zero signature under the neutral point, which plain Ed25519 may take, is refused."""
        neutral = (1).to_bytes(32, "little")
        self.assertRaises(InvalidKey, p.verify, neutral, "room", b"content", neutral + bytes(32))

    def test_not_canonical(self) -> None:
        """A y of p or more is refused, with either sign."""
        for y in range(FIELD, 2**255):
            for sign in (0, 1):
                encoding = (y | sign << 255).to_bytes(32, "little")
                self.assertRaises(InvalidKey, p.load_ed25519, encoding)

    def test_length(self) -> None:
        """Other than 32 bytes are refused."""
        key = p.ed25519_public(signing_key("any"))
        for wrong in (b"", key[:-1], key + b"\0"):
            self.assertRaises(InvalidKey, p.load_ed25519, wrong)

    def test_ordinary_keys(self) -> None:
        """Keys that people have, with either sign, are taken."""
        keys = [p.ed25519_public(signing_key(number)) for number in range(16)]
        self.assertEqual({0, 1}, {key[31] >> 7 for key in keys})
        self.assertEqual(keys, [p.load_ed25519(key).public_bytes_raw() for key in keys])

    def test_seed_length(self) -> None:
        """A seed of other than 32 bytes is refused."""
        for wrong in (b"", bytes(31), bytes(33)):
            self.assertRaises(InvalidKey, p.ed25519_from_seed, wrong)


class RSAKeyTests(SynchronousTestCase):
    """Tests for `load_rsa_public` and `load_rsa_private`."""

    modulus = rsa_key().public_key().public_numbers().n

    def der(self, exponent: int, modulus: int) -> bytes:
        """A public key of these numbers."""
        return p.rsa_public_der(rsa.RSAPublicNumbers(exponent, modulus).public_key())

    def test_ours(self) -> None:
        """3072 bits and e = 65537 are taken, and give the same bytes back."""
        der = self.der(65537, self.modulus)
        self.assertEqual(der, p.rsa_public_der(p.load_rsa_public(der)))
        self.assertEqual(65537, p.load_rsa_public(rsa_public("anybody")).public_numbers().e)

    def test_exponent(self) -> None:
        """Any other exponent is refused."""
        for exponent in (3, 17, 65539):
            self.assertRaises(InvalidKey, p.load_rsa_public, self.der(exponent, self.modulus))

    def test_size(self) -> None:
        """Any other size is refused, also one bit less or more."""
        for bits in (1024, 2048, 3071, 3073, 4096):
            self.assertRaises(InvalidKey, p.load_rsa_public, self.der(65537, 1 << bits - 1 | 1))

    def test_even_modulus(self) -> None:
        """An even modulus, which the library loads, is refused."""
        self.assertRaises(InvalidKey, p.load_rsa_public, self.der(65537, self.modulus - 1))

    def test_other_kinds(self) -> None:
        """Keys of other kinds, a private key and no key at all are refused."""
        spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        others = [
            signing_key("ed25519").public_key().public_bytes(*spki),
            ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*spki),
            p.rsa_private_der(rsa_key()),
            rsa_key().public_key().public_bytes(serialization.Encoding.PEM, spki[1]),
            rsa_key().public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1),
            b"",
            b"\x30\x00",
            b"not a key",
        ]
        for other in others:
            self.assertRaises(InvalidKey, p.load_rsa_public, other)

    def test_one_encoding(self) -> None:
        """Other bytes for the same key are refused: an id stands for a key, not for one of its encodings."""
        der = self.der(65537, self.modulus)
        length = int.from_bytes(der[2:4], "big")
        self.assertRaises(InvalidKey, p.load_rsa_public, der + b"\0")
        self.assertRaises(InvalidKey, p.load_rsa_public, b"\x30\x83\x00" + length.to_bytes(2, "big") + der[4:])
        without_null = der.replace(unhex("300d06092a864886f70d0101010500"), unhex("300b06092a864886f70d010101"))
        shorter = b"\x30\x82" + (length - 2).to_bytes(2, "big") + without_null[4:]
        self.assertRaises(InvalidKey, p.load_rsa_public, shorter)

    def test_cut_short(self) -> None:
        """A key cut short anywhere is refused."""
        der = self.der(65537, self.modulus)
        for end in range(0, len(der), 7):
            self.assertRaises(InvalidKey, p.load_rsa_public, der[:end])

    def test_private_round_trip(self) -> None:
        """A private key comes back from its DER."""
        key = p.load_rsa_private(p.rsa_private_der(rsa_key()))
        self.assertEqual(rsa_key().private_numbers(), key.private_numbers())

    def test_wrong_private_keys(self) -> None:
        """A private key of another kind, size or exponent, or damaged, is refused."""
        other = signing_key("x").private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        small = rsa.generate_private_key(65537, 1024)
        exponent = rsa.generate_private_key(3, 1024)
        for der in (
            other,
            b"",
            p.rsa_private_der(small),
            p.rsa_private_der(exponent),
            p.rsa_private_der(rsa_key())[:-9],
        ):
            self.assertRaises(InvalidKey, p.load_rsa_private, der)

    def test_key_id(self) -> None:
        """An id is the first half of SHA-256, in hex."""
        self.assertEqual(hashlib.sha256(b"der").hexdigest()[:32], p.key_id(b"der"))


class SealTests(SynchronousTestCase):
    """Tests for `seal` and `unseal`."""

    sealed = p.seal(bytes(32), b"text", b"place", bytes(12))

    def test_every_bit_counts(self) -> None:
        """Altered anywhere, nonce and tag included, it does not open."""
        for bit in range(8 * len(self.sealed)):
            self.assertRaises(WrongSecret, p.unseal, bytes(32), flipped(self.sealed, bit), b"place")

    def test_key_and_place(self) -> None:
        """Another key or other associated data do not open it."""
        self.assertRaises(WrongSecret, p.unseal, b"k" * 32, self.sealed, b"place")
        self.assertRaises(WrongSecret, p.unseal, bytes(32), self.sealed, b"placE")
        self.assertEqual(b"text", p.unseal(bytes(32), self.sealed, b"place"))

    def test_nothing_sealed(self) -> None:
        """Nothing is as good as something: it opens as nothing, and only where it was sealed."""
        sealed = p.seal(bytes(32), b"", b"place", bytes(12))
        self.assertEqual(b"", p.unseal(bytes(32), sealed, b"place"))
        self.assertRaises(WrongSecret, p.unseal, bytes(32), sealed, b"another")

    def test_cut_short(self) -> None:
        """Cut short anywhere it does not open, down to nothing."""
        for end in range(len(self.sealed)):
            self.assertRaises(WrongSecret, p.unseal, bytes(32), self.sealed[:end], b"place")


class Base64Tests(SynchronousTestCase):
    """Tests for canonical base64."""

    def test_round_trip(self) -> None:
        """Bytes of every length mod 3 come back, from both alphabets."""
        for size in range(7):
            data = bytes(range(250, 250 + size)) if size < 6 else b"\xfb\xff\xfe\xfb\xff\xfe"
            self.assertEqual(data, p.unb64(p.b64(data)))
            self.assertEqual(data, p.unb64url(p.b64url(data)))

    def test_not_canonical(self) -> None:
        """Stray bits, missing or surplus padding, white space and the other alphabet are refused."""
        for text in ("QQ", "QQ=", "QR==", "QUJ=", "QQ===", "QQ==\n", " QQ==", "Q Q==", "-_==", "QQ==QQ==", "é", "\0"):
            self.assertRaises(InvalidKey, p.unb64, text)
        for text in ("QQ==", "QR", "QUJ", "Q", "QQ\n", "+/8", "Q Q", "QUJD=", "é"):
            self.assertRaises(InvalidKey, p.unb64url, text)

    @settings(max_examples=50, deadline=None, database=None, derandomize=True)
    @given(st.text("ABCQRZabz019+/-_= \n", max_size=12))
    def test_one_text_for_any_bytes(self, text: str) -> None:
        """Whatever decodes encodes to the same text."""
        for decode, encode in ((p.unb64, p.b64), (p.unb64url, p.b64url)):
            try:
                data = decode(text)
            except InvalidKey:
                continue
            self.assertEqual(text, encode(data))

    def test_alphabets(self) -> None:
        """Both alphabets are those of RFC 4648."""
        data = bytes(range(256))
        self.assertEqual(base64.b64encode(data).decode(), p.b64(data))
        self.assertEqual(base64.urlsafe_b64encode(data).decode().rstrip("="), p.b64url(data))
