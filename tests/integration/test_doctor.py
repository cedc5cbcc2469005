"""`securechat doctor` as a process: what it prints, and its exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.test_client_stdio import environment

NOWHERE = "127.0.0.1:1"  # where nothing listens


class DoctorCommandTests(SynchronousTestCase):
    """Without a login and without a server."""

    def run_doctor(self, *arguments: str, shell: str = "") -> subprocess.CompletedProcess[str]:
        """Runs it in a fresh data directory."""
        self.place = Path(self.mktemp())
        command = [sys.executable, "-m", "securechat", "doctor", "--data-dir", str(self.place), *arguments]
        if shell:
            command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
        return subprocess.run(
            command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    def test_nothing_there(self) -> None:
        """It says what is not reached and what cannot be looked at, and ends with a failure."""
        result = self.run_doctor(NOWHERE)
        lines = result.stdout.splitlines()
        self.assertEqual((1, ""), (result.returncode, result.stderr))
        self.assertTrue(lines[0].startswith(f"BAD  link: {NOWHERE} is not reached: Nothing listens"), result.stdout)
        self.assertIn("WARN account: nobody is logged in", result.stdout)
        self.assertEqual("No command helps with that: what is marked BAD says what to do.", lines[-1])

    def test_closed_input(self) -> None:
        """Without a standard input it says how to give it one."""
        result = self.run_doctor(NOWHERE, shell="<&-")
        self.assertEqual((1, ""), (result.returncode, result.stdout))
        self.assertIn("Standard input is closed. Type the same with </dev/null", result.stderr)

    def test_help(self) -> None:
        """It has a help of its own."""
        self.assertIn("/doctor, once logged in, sees more", self.run_doctor("--help").stdout.replace("\n", " "))
