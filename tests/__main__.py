"""Runs tests by trial and closes with one line that a person and a CI can read: ``N passed, N failed``.

    python -m tests [NAME...]

A name is a package, module, class or method, as for trial; without one, all of `tests` runs. The exit status
is 0 only if something ran and nothing failed.
"""

from __future__ import annotations

import sys

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import DestructiveTestSuite, TestLoader, TrialRunner


def main(names: list[str]) -> int:
    """Runs the named tests in this process, prints their count, and answers the exit status."""
    loader = TestLoader()
    loader.suiteFactory = DestructiveTestSuite
    runner = TrialRunner(TreeReporter, workingDirectory="_trial_temp")
    result = runner.run(loader.loadByNames(names or ["tests"], recurse=True))
    # By id, since a test may fail in its body and again in its clean-up. A test that is marked `todo` and
    # succeeds fails here: the mark is out of date.
    failed = {test.id() for test, _ in [*result.failures, *result.errors, *result.unexpectedSuccesses]}
    passed = result.successes + len(result.expectedFailures)
    skipped = f", {len(result.skips)} skipped" if result.skips else ""
    print(f"{passed} passed, {len(failed)} failed{skipped}", flush=True)
    return 0 if result.testsRun and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
