"""What each slash command does. The table of them, with their help, is `commands.COMMANDS`.

Each is a coroutine of the core and the arguments as typed. It returns when its effect is there, and raises
SecureChatError, whose text is shown, when there is none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from securechat.client import commands
from securechat.client.slash import account, choose, doctor, find, history, links, rooms, running, start, talk, trust
from securechat.client.slash.common import Mistyped, meet, not_in
from securechat.errors import Exit

if TYPE_CHECKING:
    from securechat.client.core import ChatCore

Action = Callable[..., Awaitable[Exit | None]]
_MODULES: Final = (start, talk, history, find, links, rooms, running, trust, choose, account, doctor)


def _action(command: commands.Command) -> Action:
    name = "do_" + command.name.replace("-", "_")
    (found,) = {getattr(module, name) for module in _MODULES if hasattr(module, name)}
    action: Action = found
    return action


_ACTIONS: Final[dict[str, Action]] = {command.name: _action(command) for command in commands.COMMANDS}


async def run(core: ChatCore, typed: commands.Typed | commands.Text) -> Exit:
    """Carries out a typed line. Raises SecureChatError."""
    if isinstance(typed, commands.Text) and core.account is None and start.is_connect_line(typed.text):
        await start.do_connect(core, typed.text)
        return Exit.OK
    if isinstance(typed, commands.Text):
        return await talk.do_send(core, typed.text)
    status = await _ACTIONS[typed.command.name](core, *typed.arguments)
    return Exit.OK if status is None else status


__all__ = ["Mistyped", "meet", "not_in", "run"]
