"""Which view: what was asked for, and what can be had here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from twisted.internet.asyncioreactor import AsyncioSelectorReactor


def available(reactor: object, environ: Mapping[str, str] = os.environ) -> str | None:
    """Why no terminal view can be used here, in one line for a person; None where they can."""
    streams = (sys.__stdin__, sys.__stdout__)
    if any(stream is None for stream in streams) or not (os.isatty(0) and os.isatty(1)):
        return "input and output are not both a terminal"
    if environ.get("TERM", "dumb").lower() in ("", "dumb", "unknown"):
        return "the terminal says that it is dumb (TERM)"
    if not isinstance(reactor, AsyncioSelectorReactor):
        return "the other views need the asyncio reactor (twistd --reactor=asyncio)"
    return None


def choose(ui: str, reactor: object, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The view to use, "plain", "inline" or "full", and why it is the plain one although nobody asked for that."""
    if ui == "plain":
        return "plain", None
    why = available(reactor, environ)
    if why is not None:
        return "plain", why
    return ("inline" if ui == "auto" else ui), None
