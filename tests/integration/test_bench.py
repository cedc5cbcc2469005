"""The bench's generator against a real daemon: a moment of a small load, and of each shape of package."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.python.runtime import platform
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from bench.accounts import Towns
from bench.processes import BenchError, Machine, build, generate
from bench.subjects import SUBJECTS, Stage, faults


class GeneratorTests(SynchronousTestCase):
    """Ten members, two of whom write."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="securechat-test-"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        if not platform.isLinux():
            raise SkipTest("the generator needs epoll, which Linux alone has")
        try:
            self.generator, reference = build(self.directory)
        except BenchError as error:
            raise SkipTest(f"the generator cannot be built: {error}") from None
        self.stage = Stage(self.directory, Machine(), Towns(self.directory / "towns"), reference)

    def figures(self, name: str, *arguments: str) -> dict[str, Any]:
        """What a short load of a subject gives; nothing may go wrong."""
        subject = SUBJECTS[name]
        with self.stage.running(subject, 10, 1) as place:
            words = [*place.arguments, "-n", "10", "-R", "1", "-s", "2", "-d", "0.5", "-W", "0.1", *arguments]
            figures = generate(self.stage.machine, self.generator, words, self.directory / "generator.log")
            if subject.kind == "daemon":
                self.assertEqual([], faults(place))
        self.assertEqual("", figures["failed"])
        self.assertGreater(figures["deliveries_s"], 0)
        return figures

    def test_both_shapes(self) -> None:
        """Every message reaches the nine others and is acknowledged."""
        for name in ("securechat", "securechat-v1"):
            self.assertEqual(0, self.figures(name, "-w", "4")["lost"])

    def test_over_tls(self) -> None:
        """The proof of a login holds the TLS connection that it is made for."""
        self.assertEqual(10, self.figures("securechat-tls", "-w", "4")["logged_in"])

    def test_reference_servers(self) -> None:
        """Both forward the same, one a send a message, one in batches; a pace of 100 a second is kept."""
        for name in ("c-imm", "c-batch"):
            self.assertEqual(0, self.figures(name, "-r", "100")["lost"])

    def test_a_number_of_messages(self) -> None:
        """It stops where it was told to."""
        self.assertEqual(50, self.figures("c-batch", "-w", "4", "-m", "50", "-W", "0")["sent"])

    def test_a_refusal_is_told(self) -> None:
        """Packages for an audience that is not the room's are refused, and that is a failed run."""
        subject = SUBJECTS["securechat-v1"]
        with self.stage.running(subject, 10, 1) as place:
            keys = Path(place.arguments[place.arguments.index("-k") + 1])
            keys.write_text("0" * 64 + keys.read_text(encoding="ascii")[64:], encoding="ascii")
            words = [*place.arguments, "-n", "10", "-R", "1", "-d", "0.5"]
            figures = generate(self.stage.machine, self.generator, words, self.directory / "generator.log")
        self.assertIn("bad_header", figures["failed"])
