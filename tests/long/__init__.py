"""Tests that take minutes: `python -m tests.long`. Not part of `python -m tests`, which runs each of them in small."""
