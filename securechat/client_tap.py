"""`twistd securechat-client`: the same client as `securechat`."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from securechat.client.preferences import preference
from securechat.client.service import TerminalClient
from securechat.link import count_steadily


class Options(usage.Options):
    """Options of the client."""

    synopsis = "[options] [LINE]"
    longdesc = (
        "The SecureChat client. Run it in the foreground and keep twistd's log out of the chat:"
        " twistd -n --pidfile= -l FILE securechat-client. For the views with history and completion, put"
        " --reactor=asyncio before securechat-client."
    )
    optParameters = [
        ["connect", None, None, "A connect line, or HOST[:PORT]."],
        ["data-dir", None, None, "Where your keys lie."],
        ["ui", None, None, "How it looks: auto, plain, inline or full."],
        ["color", None, None, "Colours: auto, always or never."],
        ["config", None, None, "Your settings."],
    ]
    optFlags = [
        ["plain", None, "The same as --ui=plain: lines in, lines out, for pipes."],
        ["full", None, "The same as --ui=full."],
        ["screen-reader", None, "Lines to be read aloud: no times, no signs, nothing redrawn."],
    ]

    def parseArgs(self, line: str | None = None) -> None:
        """The connect line may stand without its option."""
        if line is not None:
            self["connect"] = line

    def postOptions(self) -> None:
        """A client in the background would talk to nobody; and there are only so many ways to look."""
        for row in map(preference, ("ui", "color")):
            if self[row.name] not in (None, *row.choices):
                raise usage.UsageError(f"--{row.name} is one of {', '.join(row.choices)}.")
        parent: Any = self.parent
        if parent is not None and "nodaemon" in parent and not parent["nodaemon"]:
            raise usage.UsageError("The client needs its terminal: run twistd -n --pidfile= -l FILE securechat-client")


def makeService(options: Options) -> IService:
    """Builds the service; opens nothing yet."""
    from twisted.internet import reactor

    count_steadily(reactor)
    return TerminalClient(
        reactor,
        line=options["connect"],
        data_dir=options["data-dir"],
        ui="plain" if options["plain"] else "full" if options["full"] else options["ui"],
        color=options["color"],
        config=options["config"],
        screen_reader=bool(options["screen-reader"]),
    )
