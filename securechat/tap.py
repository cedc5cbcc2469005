"""`twistd securechat`: the daemon's options and its service."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from securechat.errors import StartupError
from securechat.link import count_steadily
from securechat.server.service import ChatServerService, default_data_dir
from securechat.server.settings import Settings, read_file


class Options(usage.Options):
    """Options of the daemon; they win over the configuration file."""

    synopsis = "[options]"
    longdesc = (
        "An end-to-end encrypted chat server. It keeps ciphertext only. The first start makes everything it needs and"
        " prints the line that clients connect with. Every setting is explained in the template securechat.toml, which"
        " --print-config prints."
    )
    optParameters = [
        ["config", "c", None, "Read settings from this TOML file."],
        ["data-dir", "d", None, f"Where database and keys lie. [default: {default_data_dir()}]"],
        ["insecure-loopback", None, None, "One more listener, HOST:PORT on this machine only, without TLS."],
        ["public", None, None, "HOST[:PORT] under which others reach this server; for connect lines and invites."],
        ["key-file", None, None, "The at-rest key, if it does not lie in the data directory."],
        ["registration", None, None, "Who may make an account: open, invite or closed. [default: invite]"],
    ]
    optFlags = [["print-config", None, "Print the template of a configuration file and exit."]]

    def __init__(self) -> None:
        super().__init__()
        self.listen: list[str] = []

    def opt_listen(self, address: str) -> None:
        """HOST:PORT or a Twisted endpoint string to listen on, with TLS; repeatable. [default: 127.0.0.1:12345]"""
        self.listen.append(address)

    opt_l = opt_listen

    def postOptions(self) -> None:
        """Reads the file and checks everything, before anything starts."""
        if self["print-config"]:
            print((Path(__file__).parent / "server" / "securechat.toml").read_text(encoding="utf-8"), end="")
            raise SystemExit(0)
        try:
            settings = read_file(Path(self["config"])) if self["config"] else Settings()
            given: dict[str, Any] = {
                name.replace("-", "_"): self[name]
                for name in ("data-dir", "insecure-loopback", "public", "key-file", "registration")
                if self[name] is not None
            }
            if self.listen:
                given["listen"] = tuple(self.listen)
            self.settings = replace(settings, **given).checked()
        except StartupError as error:
            raise usage.UsageError(str(error)) from None


def makeService(options: Options) -> IService:
    """Builds the service; opens nothing yet."""
    from twisted.internet import reactor

    count_steadily(reactor)
    return ChatServerService(options.settings, reactor, foreground=lambda: not _daemonised(options))


def _daemonised(options: Options) -> bool:
    """Whether twistd runs in the background: then SystemExit would leave it hanging."""
    parent: Any = options.parent
    return parent is not None and "nodaemon" in parent and not parent["nodaemon"]
