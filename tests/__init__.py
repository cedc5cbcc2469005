"""All of them: `python -m tests`. The fast ones alone: `python -m twisted.trial tests.unit`."""
