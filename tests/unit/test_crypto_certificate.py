"""Tests for the server's self-signed TLS certificate."""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.trial.unittest import SynchronousTestCase

from securechat.crypto.certificate import self_signed

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
NAMES = ["chat.example.org", "localhost", "192.0.2.7", "2001:db8::1"]


class SelfSignedTests(SynchronousTestCase):
    """Tests for `self_signed`."""

    key_pem, chain_pem = self_signed(NAMES, NOW, days=30)
    certificate = x509.load_pem_x509_certificate(chain_pem)

    def test_names(self) -> None:
        """Host names and addresses stand in it, each as what it is."""
        names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(["chat.example.org", "localhost"], names.get_values_for_type(x509.DNSName))
        self.assertEqual(
            [ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("2001:db8::1")],
            names.get_values_for_type(x509.IPAddress),
        )

    def test_key(self) -> None:
        """It is an ECDSA P-256 key, in clear PEM, and the certificate's."""
        key = serialization.load_pem_private_key(self.key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.assertEqual("secp256r1", key.curve.name)
        self.assertEqual(key.public_key(), self.certificate.public_key())

    def test_signature(self) -> None:
        """It is signed by itself."""
        self.certificate.verify_directly_issued_by(self.certificate)

    def test_validity(self) -> None:
        """It is valid from an hour before, for clocks that are behind, for the days given."""
        self.assertEqual(NOW - datetime.timedelta(hours=1), self.certificate.not_valid_before_utc)
        self.assertEqual(NOW + datetime.timedelta(days=30), self.certificate.not_valid_after_utc)

    def test_serves_a_server_only(self) -> None:
        """It can neither sign other certificates nor be a client's."""
        extensions = self.certificate.extensions
        self.assertFalse(extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual([ExtendedKeyUsageOID.SERVER_AUTH], list(usage))

    def test_says_nothing_about_the_machine(self) -> None:
        """Its subject is the product's name alone."""
        self.assertEqual("CN=SecureChat", self.certificate.subject.rfc4514_string())

    def test_each_is_new(self) -> None:
        """Another one has another key and serial number."""
        key_pem, chain_pem = self_signed(NAMES, NOW)
        self.assertNotEqual(self.key_pem, key_pem)
        other = x509.load_pem_x509_certificate(chain_pem)
        self.assertNotEqual(self.certificate.serial_number, other.serial_number)
