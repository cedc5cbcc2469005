"""Why something typed waits for its author's word, kept, and what to type; or why it goes nowhere."""

from __future__ import annotations

from collections.abc import Iterable

from securechat.errors import Exit, SecureChatError


class Held(SecureChatError):
    """Base: nothing is sent until its author says so."""

    exit = Exit.UNTRUSTED


class IdentityChanged(Held):
    """Nothing is sealed for somebody whose identity changed, until their friend's word."""

    def __init__(self, users: Iterable[str], *, verified: bool = False) -> None:
        self.users = tuple(users)
        names = ", ".join(self.users)
        first = self.users[0]
        how = f"type /verify {first}" if verified else f"type /safety {first}, then /trust {first}"
        super().__init__(
            f"The identity of {names} changed since you {'compared it' if verified else 'first met'}. Nothing is sent"
            f" to them until you compare again: {how}. What you wrote waits."
        )


class Stopped(Held):
    """Something in a conversation did not check out: the server, or who holds it, may be lying.

    Args:
        broken: the log does not check out, so nobody knows whom to seal for, whatever its user says.
    """

    def __init__(self, title: str, reasons: Iterable[str], *, broken: bool = False) -> None:
        if broken:
            super().__init__(
                f"Nothing is sent to {title}: {'; '.join(reasons)}. What you wrote waits until the server shows a log"
                f" that checks out; /continue {title} looks again. Tell the others by another way."
            )
            return
        super().__init__(
            f"Sending to {title} is stopped: {'; '.join(reasons)}. What you wrote waits. Compare with the others by"
            f" another way, look at /audit; /continue {title} goes on all the same."
        )


class Elsewhere(SecureChatError):
    """Another room has the name by now: what was typed for the one before it is not sent at all."""

    exit = Exit.UNTRUSTED

    def __init__(self, title: str) -> None:
        super().__init__(f"This was typed for another room that was called {title} then. It goes nowhere.")


class Grown(Held):
    """Others came into a private room since this was typed."""

    def __init__(self, title: str, users: Iterable[str]) -> None:
        super().__init__(
            f"{', '.join(users)} came into {title} since you typed this. It waits: /continue {title} sends it to them"
            " too."
        )
