"""The project's own measurements: ``python -m bench`` (see docs/performance.md)."""
