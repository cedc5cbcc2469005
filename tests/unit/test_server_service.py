"""Tests for what the daemon says of a place it cannot listen at; the integration tests start it."""

from __future__ import annotations

import errno
import os

from twisted.internet.defer import fail
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from securechat.errors import StartupError
from securechat.server.service import _bound


class BoundTests(SynchronousTestCase):
    """Tests for `_bound`."""

    def said(self, error: Exception) -> str:
        """The text for an endpoint that fails so."""
        return str(self.assertRaises(StartupError, _bound, fail(error), "127.0.0.1:80"))

    def test_taken(self) -> None:
        """Only where the address is taken another server may have it."""
        for number, asked in ((errno.EADDRINUSE, True), (errno.EACCES, False), (errno.EADDRNOTAVAIL, False)):
            why = os.strerror(number)
            said = self.said(CannotListenError("127.0.0.1", 80, OSError(number, why)))
            self.assertTrue(said.startswith(f"Cannot listen on 127.0.0.1:80: {why}."), said)
            self.assertEqual(asked, "another server" in said, said)
            self.assertIn("--listen", said)

    def test_other_errors(self) -> None:
        """What is no error of a socket is told in its own words."""
        self.assertIn("no such interface", self.said(ValueError("no such interface")))
