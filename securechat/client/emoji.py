"""Short names of emoji: ``:tada:`` for 🎉. Pure.

The names are those that Unicode gives, in small letters with underscores; and those that people type.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Final

MOST: Final = 12  # names that are offered at once
LEAST: Final = 2  # letters behind the colon before any are

# Blocks of Unicode with emoji. Of their characters those two columns wide are shown as pictures by themselves.
_BLOCKS: Final = (
    (0x231A, 0x23F3), (0x25FD, 0x2B55), (0x1F300, 0x1F5FF), (0x1F600, 0x1F6FF), (0x1F7E0, 0x1F7EB),
    (0x1F90C, 0x1F9FF), (0x1FA70, 0x1FAFF),
)  # fmt: skip
_SKIN: Final = range(0x1F3FB, 0x1F400)  # colours of skin: nothing by themselves

# name or names that people type: what Unicode calls it.
_ALIASES: Final[Mapping[str, str]] = {
    "+1 thumbsup yes": "thumbs up sign", "-1 thumbsdown no": "thumbs down sign", "tada": "party popper",
    "joy lol": "face with tears of joy", "rofl": "rolling on the floor laughing", "smile": "smiling face with open "
    "mouth and smiling eyes", "grin": "grinning face with smiling eyes", "laughing": "smiling face with open mouth and "
    "tightly-closed eyes", "blush": "smiling face with smiling eyes", "wink": "winking face", "sob": "loudly crying "
    "face", "cry": "crying face", "sweat_smile": "smiling face with open mouth and cold sweat", "thinking":
    "thinking face", "shrug": "shrug", "facepalm": "face palm", "clap": "clapping hands sign", "pray thanks":
    "person with folded hands", "wave": "waving hand sign", "ok_hand": "ok hand sign", "muscle": "flexed biceps",
    "fire": "fire", "100": "hundred points symbol", "rocket": "rocket", "eyes": "eyes", "heart_eyes":
    "smiling face with heart-shaped eyes", "kiss": "face throwing a kiss", "sunglasses cool": "smiling face with "
    "sunglasses", "angry": "angry face", "rage": "pouting face", "scream": "face screaming in fear", "skull": "skull",
    "poop": "pile of poo", "party": "face with party horn and party hat", "hug": "hugging face", "sleeping zzz":
    "sleeping face", "sick": "face with thermometer", "mask": "face with medical mask", "nerd": "nerd face",
    "neutral": "neutral face", "upside_down": "upside-down face", "rolling_eyes": "face with rolling eyes", "grimace":
    "grimacing face", "confused": "confused face", "sad": "disappointed face", "broken_heart": "broken heart",
    "sparkles": "sparkles", "star": "white medium star", "check": "white heavy check mark", "x": "cross mark",
    "question": "black question mark ornament", "exclamation": "heavy exclamation mark symbol", "bulb idea":
    "electric light bulb", "bug": "bug", "lock": "lock", "key": "key", "bell": "bell", "coffee": "hot beverage",
    "beer": "beer mug", "beers": "clinking beer mugs", "cake": "birthday cake", "pizza": "slice of pizza", "gift":
    "wrapped present", "trophy": "trophy", "calendar": "calendar", "memo": "memo", "computer": "personal computer",
    "phone": "telephone receiver", "email": "e-mail symbol", "hourglass": "hourglass with flowing sand", "ship_it":
    "ship", "construction": "construction sign", "raised_hands": "person raising both hands in celebration", "point_up":
    "white up pointing backhand index", "zap": "high voltage sign", "sun": "sun with face", "moon": "full moon symbol",
    "rainbow": "rainbow", "dog": "dog face", "cat": "cat face", "see_no_evil": "see-no-evil monkey", "robot":
    "robot face",
}  # fmt: skip

# Pictures only with the mark that asks for one.
_MARKED: Final[Mapping[str, str]] = {
    "heart": "❤️", "red_heart": "❤️", "warning": "⚠️", "check_mark": "✔️", "victory": "✌️", "v": "✌️", "sunny": "☀️",
    "cloud": "☁️", "snowman": "☃️", "info": "\u2139\ufe0f", "recycle": "♻️", "scissors": "✂️", "pencil": "✏️",
    "envelope": "✉️",
}  # fmt: skip

_NAME: Final = r":[a-z0-9_+\-]+:"
_WRITTEN: Final = re.compile(rf"(?<![\w:/])(?:{_NAME})+(?![\w:])")
_CODE: Final = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)


@cache
def table() -> Mapping[str, str]:
    """All names and what they stand for: those that people type first, then Unicode's, each by the alphabet."""
    typed = dict(_MARKED)
    for names, called in _ALIASES.items():
        typed.update(dict.fromkeys(names.split(), unicodedata.lookup(called)))
    unicodes: dict[str, str] = {}
    for first, last in _BLOCKS:
        for code in range(first, last + 1):
            if code not in _SKIN and unicodedata.east_asian_width(chr(code)) == "W":
                name = unicodedata.name(chr(code), "").lower()
                unicodes[re.sub(r"[^a-z0-9]+", "_", name)] = chr(code)
    unicodes.pop("", None)
    rest = {name: unicodes[name] for name in sorted(unicodes) if name not in typed}
    return {name: typed[name] for name in sorted(typed)} | rest


def complete(typed: str) -> list[str]:
    """Names that a word may become, as ``:tada:``: those that begin so first, then those with a part that does.

    Args:
        typed: the word so far; nothing is offered unless it is a colon and at least `LEAST` letters.
    """
    start = typed[1:].lower()
    if not typed.startswith(":") or len(start) < LEAST or not re.fullmatch(r"[a-z0-9_+\-]+", start):
        return []
    begins = [name for name in table() if name.startswith(start)]
    within = [name for name in table() if f"_{start}" in name and not name.startswith(start)]
    return [f":{name}:" for name in (*begins, *within)[:MOST]]


def label(candidate: str) -> str:
    """How a candidate of `complete` is listed, ``:tada: 🎉``; all others are listed as they are."""
    found = table().get(candidate[1:-1]) if candidate.startswith(":") and candidate.endswith(":") else None
    return candidate if found is None else f"{candidate} {found}"


def replace(text: str) -> str:
    """A typed text with emoji for the names that are known; not inside backquotes, where it is code.

    A name stands by itself: ``std::tada::x`` and ``12:30:00`` stay as they are.
    """
    if text.count(":") < 2:
        return text
    parts = _CODE.split(text)
    parts[::2] = [_WRITTEN.sub(_emoji, part) for part in parts[::2]]
    return "".join(parts)


def _emoji(run: re.Match[str]) -> str:
    return re.sub(_NAME, lambda one: table().get(one[0][1:-1], one[0]), run[0])
