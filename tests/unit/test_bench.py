"""Tests for the bench: the arithmetic of goals, what a report says, and the command line. Nothing is measured."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench import __main__ as command
from bench import report
from bench.accounts import accounts_text, keys_text, settle
from bench.goals import GOALS, Figure, Goal, Verdict, judge, judged
from bench.processes import HERE, Machine, failure
from bench.scenarios import SCENARIOS, Plan, Results, Run
from bench.subjects import CONFIGURATIONS, PROGRAMS, SUBJECTS
from tests.cast import SRV

AT_LEAST = Goal("quick", 2, Figure("A", "ours", "n"), Figure("A", "theirs", "n"), at_least=True)
AT_MOST = Goal("small", 10, Figure("A", "ours", "n"), unit="ms")
GOOD = {"errors": 0, "error": "", "dead": 0, "entered": 5, "clients": 5, "lost": 0, "sent": 9}


def results(**values: float) -> Results:
    """One run a subject, each with its figure `n`."""
    return Results(Run("A", subject, {"n": value}) for subject, value in values.items())


class GoalTests(SynchronousTestCase):
    """What comes of a goal."""

    def test_a_multiple_is_met(self) -> None:
        """Ours is divided by theirs, and held against the target."""
        verdict = judge(AT_LEAST, results(ours=30, theirs=10))
        self.assertEqual((3.0, True, "met by 50 %"), (verdict.value, verdict.met, verdict.text))

    def test_a_multiple_is_not_met(self) -> None:
        """The verdict says by which part of the target it is missed."""
        verdict = judge(AT_LEAST, results(ours=12, theirs=10))
        self.assertEqual((False, "not met by 40 %"), (verdict.met, verdict.text))

    def test_a_limit_is_met(self) -> None:
        """Less is better where a goal is a limit."""
        self.assertEqual("met by 25 %", judge(AT_MOST, results(ours=7.5)).text)

    def test_a_limit_is_not_met(self) -> None:
        """More than a limit is by how much it is exceeded."""
        self.assertEqual("not met by 150 %", judge(AT_MOST, results(ours=25)).text)

    def test_the_target_itself_will_do(self) -> None:
        """Both kinds of goals take their own target."""
        for verdict in (Verdict(AT_LEAST, 2.0), Verdict(AT_MOST, 10.0)):
            self.assertEqual("met by 0 %", verdict.text)

    def test_a_figure_is_the_median_of_runs_that_count(self) -> None:
        """A failed run has no part in it."""
        found = Results(Run("A", "ours", {"n": value}) for value in (1.0, 5.0, 9.0))
        found.add(Run("A", "ours", {"n": 1000.0}, "lost"))
        self.assertEqual(5.0, found.value("A", "ours", "n"))

    def test_nothing_comes_of_a_peer_that_is_not_there(self) -> None:
        """It is no failure, and the verdict says why there is none."""
        found = results(ours=30)
        found.add(Run("A", "theirs", failed="not installed"))
        verdict = judge(AT_LEAST, found)
        self.assertEqual("not measured: theirs in A: not installed", verdict.text)
        self.assertFalse(verdict.met)
        self.assertEqual([], found.failures())

    def test_nothing_is_divided_by_zero(self) -> None:
        """A peer that delivered nothing is nothing to compare with."""
        self.assertEqual("not measured: theirs in A gave 0", judge(AT_LEAST, results(ours=1, theirs=0)).text)

    def test_what_cannot_be_measured_says_so(self) -> None:
        """Each goal that is measured elsewhere has its reason, and every other one names its figure."""
        for verdict in judged(Results()):
            self.assertEqual(bool(verdict.goal.elsewhere), verdict.goal.ours is None, verdict.goal.text)
            self.assertIn("not measured: ", verdict.text)

    def test_every_figure_comes_from_somewhere(self) -> None:
        """A goal over a load names a subject that is put under it."""
        for goal in GOALS:
            for figure in filter(None, (goal.ours, goal.theirs)):
                if figure.scenario in SCENARIOS:
                    self.assertIn(figure.subject, SCENARIOS[figure.scenario].subjects, goal.text)


class RunTests(SynchronousTestCase):
    """What counts, and what is run."""

    def test_a_good_run_counts(self) -> None:
        """Nothing is wrong with it."""
        self.assertEqual("", failure(GOOD))

    def test_what_goes_wrong_is_told(self) -> None:
        """Refusals, dead connections, people who never came in, and lost messages each spoil a run."""
        for changes, said in (
            ({"errors": 2, "error": "busy"}, "2 refusals, the first: busy"),
            ({"dead": 1}, "1 connections died"),
            ({"entered": 4}, "only 4 of 5 entered in time"),
            ({"lost": 3}, "3 of 9 messages lost"),
        ):
            self.assertEqual(said, failure(GOOD | changes))

    def test_every_subject_is_known(self) -> None:
        """Loads name subjects that there are, and each peer comes with a configuration."""
        for scenario in SCENARIOS.values():
            for name in scenario.subjects:
                self.assertIn(name, SUBJECTS)
        for kind in PROGRAMS:
            self.assertTrue((HERE / "peers" / CONFIGURATIONS[kind]).is_file(), kind)

    def test_a_small_window_is_kept(self) -> None:
        """A subject's own window is never widened."""
        words = SCENARIOS["A"].arguments(SUBJECTS["prosody"], 2.0)
        self.assertEqual("4", words[words.index("-w") + 1])
        words = SCENARIOS["A"].arguments(SUBJECTS["nats"], 2.0)
        self.assertEqual("40", words[words.index("-w") + 1])

    def test_a_pace_has_no_window(self) -> None:
        """Where messages are due at fixed times, latency counts from then."""
        words = SCENARIOS["E"].arguments(SUBJECTS["nats"], 2.0)
        self.assertEqual("200", words[words.index("-r") + 1])
        self.assertNotIn("-w", words)

    def test_nothing_begins_late(self) -> None:
        """Behind its deadline a plan starts no server, and says so in the run."""
        stage: Any = None  # nothing of it is touched
        plan = Plan(stage, Path("generator"), (), 1.0, 1, float("-inf"), lambda what: None)
        found = Results()
        plan.run(["V1-bytes"], found)
        self.assertEqual([Run("V1-bytes", "c-imm", failed="not run: out of time")], found.runs)

    def test_only_the_peers_asked_for(self) -> None:
        """Ours and the reference servers always run."""
        stage: Any = None
        plan = Plan(stage, Path("generator"), ("nats",), 1.0, 1, float("-inf"), lambda what: None)
        found = Results()
        plan.run(["E"], found)
        self.assertEqual(["securechat", "c-imm", "c-batch", "nats"], [run.subject for run in found.runs])


class TownTests(SynchronousTestCase):
    """The files the generator reads."""

    def test_accounts(self) -> None:
        """A line an account, thirteen fields; clients are spread over the rooms in turn."""
        town = settle(SRV, 4, 2)
        lines = [line.split(" ") for line in accounts_text(town).splitlines()]
        self.assertEqual([13] * 4, [len(line) for line in lines])
        self.assertEqual(["room00000", "room00001"] * 2, [line[6] for line in lines])
        self.assertEqual([town.rooms["room00001"].log.head] * 2, [line[8] for line in lines[1::2]])

    def test_entering(self) -> None:
        """Who is no member yet has a signed event to enter by, and waits for no conversation at the login."""
        lines = [line.split(" ") for line in accounts_text(settle(SRV, 3, 1, members=False)).splitlines()]
        self.assertEqual([("1", False), ("0", True), ("0", True)], [(line[9], "," in line[12]) for line in lines])

    def test_keys(self) -> None:
        """A line a room: the digest of its audience, then an entry for each member."""
        (line,) = keys_text(settle(SRV, 2, 1)).splitlines()
        digest, _, text = line.partition(" ")
        found = json.loads("{" + text + "}")
        self.assertEqual(64, len(digest))
        self.assertEqual({"user00000", "user00001"}, found["kids"].keys() & found["encrypted_keys"].keys())


class ReportTests(SynchronousTestCase):
    """What is printed."""

    FIGURES = {
        "deliveries_s": 1234567.0, "cpu_us": 0.456, "p50_ms": 1.0, "p99_ms": 2.0, "rss": 5_000_000.0,
        "bytes_delivery": 410.0, "generator_cores": 0.5, "server_cores": 1.0,
    }  # fmt: skip
    ABOUT = {"machine": "a machine", "how": "quickly"}

    def test_not_met_by_how_much(self) -> None:
        """The line of a goal says its target, what was reached, and the verdict."""
        self.assertEqual(["quick", "≥ 2×", "1.2×", "not met by 40 %"], report.goals([Verdict(AT_LEAST, 1.2)])[1])
        self.assertEqual(["small", "≤ 10 ms", "25 ms", "not met by 150 %"], report.goals([Verdict(AT_MOST, 25.0)])[1])

    def test_loads(self) -> None:
        """A row a subject and load; what is missing says why."""
        found = Results([Run("A", "c-imm", self.FIGURES), Run("A", "nats", failed="not installed")])
        _, first, second = report.loads(found)
        self.assertEqual(["A", "c-imm", "1,234,567", "0.456", "1", "2", "5", "410", ""], first)
        self.assertEqual(["A", "nats", *[""] * 6, "not installed"], second)

    def test_the_generator_was_the_slower_one(self) -> None:
        """A server that was never busy could have done more, and the row says so."""
        busy = self.FIGURES | {"generator_cores": 1.0, "server_cores": 0.6}
        (_, row) = report.loads(Results([Run("A", "c-imm", busy)]))
        self.assertEqual("the generator was the slower one", row[-1])

    def test_a_failed_run_is_never_silent(self) -> None:
        """Neither beside runs that count nor alone."""
        found = Results([Run("A", "c-imm", self.FIGURES), Run("A", "c-imm", {}, "3 of 9 messages lost")])
        self.assertEqual("1 of 2 runs failed: 3 of 9 messages lost", report.loads(found)[1][-1])
        self.assertIn("FAILED: A, c-imm: 3 of 9 messages lost", report.whole(found, self.ABOUT))

    def test_markdown(self) -> None:
        """A head, a rule, a row a line."""
        self.assertEqual("| a | b |\n|---|---|\n| 1 | 2 |", report.markdown([["a", "b"], ["1", "2"]]))

    def test_goals_of_what_was_not_run_are_only_counted(self) -> None:
        """A run of one load does not list the goals of the others."""
        shown = report.whole(Results([Run("A", "c-imm", self.FIGURES)]), self.ABOUT)
        self.assertIn("goals are about what was not run", shown)
        self.assertNotIn("Synapse", shown)


class CommandTests(SynchronousTestCase):
    """``python -m bench``."""

    def refused(self, *words: str) -> str:
        """What the command says of words it does not take."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            self.assertRaises(SystemExit, command.parser().parse_args, words)
        return said.getvalue()

    def test_lists(self) -> None:
        """Loads and peers are named with commas between."""
        options = command.parser().parse_args(["--only", "A,history", "--peers", "nats"])
        self.assertEqual((("A", "history"), ("nats",)), (options.only, options.peers))

    def test_unknown_names(self) -> None:
        """A name that is none is refused with those that are."""
        self.assertIn("there is no 'Z'; choose of A,B,C,E", self.refused("--only", "A,Z"))
        self.assertIn("there is no 'ejabberd'; choose of ngircd,", self.refused("--peers", "ejabberd"))

    def test_numbers(self) -> None:
        """Rounds and seconds are above 0, cores are two."""
        for words in (("--rounds", "0"), ("--rounds", "x"), ("--seconds", "-1")):
            self.assertIn("is not a number above 0", self.refused(*words))
        self.assertIn("is not two numbers", self.refused("--cores", "0"))

    def test_an_earlier_run_is_shown_again(self) -> None:
        """``--from`` measures nothing; the exit status tells of a failed run, not of goals."""
        for failed, status in (("", 0), ("1 connections died", 1)):
            kept = {"about": ReportTests.ABOUT, "runs": [{"scenario": "storm", "subject": "securechat",
                    "figures": {"p99_ms": 7.5}, "failed": failed}]}  # fmt: skip
            path = Path(self.mktemp())
            path.write_text(json.dumps(kept), encoding="utf-8")
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                self.assertEqual(status, command.main(["--from", str(path)]))
            self.assertIn("1 connections died" if failed else "7.5", said.getvalue())

    def test_a_file_that_is_none(self) -> None:
        """What cannot be read is said in a line, and is no figure."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            self.assertEqual(2, command.main(["--from", self.mktemp()]))
        self.assertIn("bench: ", said.getvalue())

    def test_a_machine_leaves_priorities_alone(self) -> None:
        """Unless it is told otherwise."""
        self.assertEqual(0, Machine().priority)
