"""The `securechat` command: the client, the demo, and the operator's door."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.logger import ILogObserver, LogLevel, formatEvent
from zope.interface import provider

from securechat import __version__
from securechat.client.preferences import preference
from securechat.errors import Exit, SecureChatError, StartupError

_EXAMPLES: Final = """\
examples:
  securechat                                 the server used last, or 127.0.0.1:12345
  securechat 'securechat://HOST:PORT/#id=…'  the line its operator or an invitation gives you
  printf '/login alice PASSWORD\\n/join general\\n/send Hello\\n/exit\\n' | securechat --plain
  securechat send ops 'disk almost full'     one message from a script; securechat send --help says more
  securechat listen ops --json               what comes, for a script
  securechat admin invite                    a line that lets one friend in (on the server's machine)
  securechat admin --help                    what else a server's operator can do
  securechat --full                          with lists of rooms and members beside the messages
  securechat doctor                          what is wrong on this machine, and what to type next
  securechat demo                            a server and two clients, to look at

exit status: 0 done; 1 what was typed cannot be done; 2 wrong usage; 3 network or server; 4 an identity changed or is
unknown, or something signed does not check out; 5 too many attempts; 6 login refused; 7 no such room or user, or not a
member; 130 interrupted. A script ends with its first command that fails.
"""


def add_credentials(parser: argparse.ArgumentParser) -> None:
    """The options that say who logs in, for every command that may."""
    parser.add_argument("--user", metavar="NAME", help="who logs in; else the only account of this machine there")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--password-file", metavar="FILE", help="its password; nobody else may read that file")
    place.add_argument("--password-fd", type=int, metavar="N", help="the same, the first line of an open descriptor")


def _client_parser() -> argparse.ArgumentParser:
    uis, colors = preference("ui").choices, preference("color").choices
    parser = argparse.ArgumentParser(
        prog="securechat",
        usage="securechat [options] [LINE]\n       securechat send | listen | demo | doctor | admin | version [--help]",
        description="An end-to-end encrypted chat, in the terminal or in a pipe.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("line", nargs="?", metavar="LINE", help="a connect line, or HOST[:PORT]")
    parser.add_argument("--connect", metavar="LINE", help="the same as an option (also: SECURECHAT_CONNECT)")
    parser.add_argument("--data-dir", metavar="DIR", help="where your keys lie (also: SECURECHAT_DATA_DIR)")
    parser.add_argument(
        "--ui", choices=uis, metavar="VIEW", help=f"{', '.join(uis)}: how it looks (also: SECURECHAT_UI)"
    )
    parser.add_argument("--full", action="store_const", dest="ui", const="full", help="the same as --ui full")
    parser.add_argument(
        "--plain", action="store_const", dest="ui", const="plain", help="--ui plain: lines in, lines out, for pipes"
    )
    parser.add_argument(
        "--screen-reader", action="store_true", help="lines to be read aloud: no times, no signs, nothing redrawn"
    )
    parser.add_argument("--color", choices=colors, help="colours (NO_COLOR turns them off too)")
    parser.add_argument("--config", metavar="FILE", help="your settings (also: SECURECHAT_CONFIG)")
    add_credentials(parser)
    parser.add_argument("--keep-going", action="store_true", help="a script goes on after a command that failed")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="wait so long for acknowledgements at the end"
    )
    parser.add_argument("--version", action="version", version=f"SecureChat {__version__}")
    return parser


def _run_client(arguments: Sequence[str]) -> int:
    options = _client_parser().parse_args(arguments)
    plain = options.screen_reader or (options.ui or os.environ.get("SECURECHAT_UI")) == "plain"
    if not plain and os.isatty(0) and os.isatty(1):
        # The terminal views live on asyncio; everything else is at home on Twisted's own reactor.
        from twisted.internet import asyncioreactor

        asyncioreactor.install()
    from twisted.internet import reactor
    from twisted.logger import globalLogBeginner

    from securechat.client.credentials import find_password
    from securechat.client.service import TerminalClient
    from securechat.link import count_steadily

    count_steadily(reactor)
    globalLogBeginner.beginLoggingTo([log_nothing_but_faults], redirectStandardIO=False)
    named = options.user or options.password_file or options.password_fd is not None
    client = TerminalClient(
        reactor,
        user=options.user,
        password=find_password(options.password_file, options.password_fd, os.environ) if named else None,
        line=options.connect or options.line,
        data_dir=options.data_dir,
        ui=options.ui,
        color=options.color,
        config=options.config,
        screen_reader=options.screen_reader,
        keep_going=options.keep_going,
        timeout=options.timeout,
    )
    client.startService()
    reactor.addSystemEventTrigger("before", "shutdown", client.stopService)
    reactor.run()
    return client.status


@provider(ILogObserver)
def log_nothing_but_faults(event: dict[str, Any]) -> None:
    """The screen is the chat's. A fault of the program itself is told, without its insides."""
    if event.get("log_level") in (LogLevel.error, LogLevel.critical):
        if os.environ.get("SECURECHAT_DEBUG"):
            failure = event.get("log_failure")
            sys.stderr.write(f"{formatEvent(event)}\n{failure.getTraceback() if failure is not None else ''}")
        else:
            first = formatEvent(event).partition("\n")[0]
            sys.stderr.write(f"! A fault in the client: {first} (SECURECHAT_DEBUG=1 shows more)\n")


def _admin(arguments: Sequence[str]) -> int:
    from securechat import admin

    return admin.run(arguments)


def _demo(arguments: Sequence[str]) -> int:
    from securechat import demo

    argparse.ArgumentParser(
        prog="securechat demo",
        description="Starts a daemon in a temporary directory and two clients that talk through it; leaves nothing.",
    ).parse_args(arguments)
    return demo.run()


def _doctor(arguments: Sequence[str]) -> int:
    """The client without a person: it types /doctor."""
    parser = argparse.ArgumentParser(
        prog="securechat doctor",
        description="Looks at files, terminal, server and versions; /doctor, once logged in, sees more.",
    )
    parser.add_argument("line", nargs="?", metavar="LINE", help="a connect line, or HOST[:PORT]")
    parser.add_argument("--data-dir", metavar="DIR", help="where your keys lie (also: SECURECHAT_DATA_DIR)")
    options = parser.parse_args(arguments)
    if sys.__stdin__ is None:
        raise StartupError("Standard input is closed. Type the same with </dev/null behind it.")
    reading, writing = os.pipe()
    os.write(writing, b"/doctor\n")
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
    places = [] if options.data_dir is None else ["--data-dir", options.data_dir]
    return _run_client(["--plain", *places, *([] if options.line is None else [options.line])])


def _version(arguments: Sequence[str]) -> int:
    print(f"SecureChat {__version__}")
    return Exit.OK


def _send(arguments: Sequence[str]) -> int:
    from securechat import scripting

    return scripting.send(arguments)


def _listen(arguments: Sequence[str]) -> int:
    from securechat import scripting

    return scripting.listen(arguments)


_SUBCOMMANDS: Final = {
    "admin": _admin, "demo": _demo, "doctor": _doctor, "listen": _listen, "send": _send, "version": _version,
}  # fmt: skip


def _printed(run: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Runs what prints to standard output; that nobody reads it, or that it cannot be written, is no success."""
    try:
        try:
            return run(arguments)
        finally:
            if sys.stdout is not None:  # closed before the start: what has its own descriptors goes on without
                sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # or Python tries, and complains, once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"securechat: {error.filename or 'The output'} cannot be used: {error.strerror}.\n")
        return Exit.FIXABLE


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    run = _SUBCOMMANDS.get(given[0]) if given else None
    try:
        return _run_client(given) if run is None else _printed(run, given[1:])
    except SecureChatError as error:
        sys.stderr.write(f"securechat: {error}\n")
        return int(getattr(error, "exit", Exit.FIXABLE))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
