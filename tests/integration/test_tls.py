"""What an outside scanner says of the daemon's TLS."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess

import trustme
from twisted.trial.unittest import SkipTest

from tests.integration.harness import PATIENCE, IntegrationTestCase

# What is let through, and why:
ALLOWED = {
    "certificate_path_validation",  # the authority is of this test, and no browser knows it
    "tls_curves",  # OpenSSL's own choice, see below: pyOpenSSL cannot narrow it
}
CURVES = {"X448", "secp521r1"}  # beyond those of the profile; both are sound


class ScannerTests(IntegrationTestCase):
    """Tests by sslyze, which needs an environment of its own: it wants another `cryptography` than we do.

    SECURECHAT_SSLYZE says where it is, if not on the PATH.
    """

    def test_modern(self) -> None:
        """It finds what Mozilla's profile "modern" asks for, but for what is allowed above."""
        scanner = os.environ.get("SECURECHAT_SSLYZE") or shutil.which("sslyze")
        if scanner is None:
            raise SkipTest("sslyze is not installed (pip install sslyze, in an environment of its own)")
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        now, month = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=30)
        certificate = authority.issue_cert(
            "localhost", key_type=trustme.KeyType.ECDSA, not_before=now - month, not_after=now + month
        )
        key, chain = self.directory / "key.pem", self.directory / "chain.pem"
        certificate.private_key_pem.write_to_path(key)
        for part in certificate.cert_chain_pems:
            part.write_to_path(chain, append=True)
        daemon = self.daemon(settings={"tls_key": str(key), "tls_chain": str(chain)})
        scanned = subprocess.run(
            [scanner, "--mozilla_config=modern", f"localhost:{daemon.port}"],
            capture_output=True,
            encoding="utf-8",
            timeout=2 * PATIENCE,
            check=False,
        )
        verdict = scanned.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
        self.assertIn('Mozilla\'s "modern" configuration', verdict, scanned.stdout + scanned.stderr)
        found = dict(re.findall(r"(?m)^ +\* (\w+): (.*)$", verdict))
        self.assertEqual({}, {name: text for name, text in found.items() if name not in ALLOWED})
        self.assertLessEqual(set(re.findall(r"'(\w+)'", found.get("tls_curves", ""))), CURVES)
        self.assertNotIn("VULNERABLE -", scanned.stdout)
        accepted = set(re.findall(r"(?m)^ +(TLS_\w+) +\d+ ", scanned.stdout))
        self.assertEqual({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}, accepted)
