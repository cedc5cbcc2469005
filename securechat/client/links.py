"""Links in texts: found, their hosts in ASCII, and marked for terminals that make them clickable. Pure."""

from __future__ import annotations

import re
import unicodedata
import zlib
from typing import Final
from urllib.parse import quote

_FOUND: Final = re.compile(r"(?<!\w)(https?|securechat(?:\+insecure)?)://([^\s/?#<>\"`]+)([^\s<>\"`]*)", re.IGNORECASE)
_TRAILING: Final = frozenset(".,;:!?'*_~…\u201d\u2019»")
_PAIRS: Final = {")": "(", "]": "[", "}": "{"}
_HOST: Final = re.compile(r"[a-z0-9._\-\[\]:]+")
_MAX_LABEL: Final = 63  # characters between two dots of a host, by RFC 1035
_MAX_HOST: Final = 253  # characters of all of it
_SAFE: Final = "!#$%&'()*+,/:;=?@[]~"  # of a link's characters, besides letters and digits, that stay as they are


def find_links(text: str) -> list[str]:
    """The links of a text, in their order, each once.

    Punctuation behind a link is not its own, nor is a bracket that it does not open. A host with letters beyond ASCII
    is given in its ASCII form, since letters of another alphabet can look like those of a known name.

    Args:
        text: cleaned, of any length; time grows with it linearly.
    """
    found: dict[str, None] = {}
    for match in _FOUND.finditer(text):
        scheme, place, rest = match[1].lower(), match[2], match[3]
        if rest:
            rest = _trimmed(rest)
        else:
            place = _trimmed(place)
        user, at, host = place.rpartition("@")
        plain = ascii_host(host)
        if plain:
            found[f"{scheme}://{user}{at}{plain}{rest}"] = None
    return list(found)


def _trimmed(text: str) -> str:
    """Without the punctuation at its end, and without brackets there that were opened before it."""
    depth = {bracket: text.count(bracket) - text.count(opening) for bracket, opening in _PAIRS.items()}
    end = len(text)
    while end:
        last = text[end - 1]
        if last in _PAIRS and depth[last] > 0:
            depth[last] -= 1
        elif last not in _TRAILING:
            break
        end -= 1
    return text[:end]


def ascii_host(host: str) -> str:
    """A host, with its port if it has one, in ASCII: ``bücher.example`` is ``xn--bcher-kva.example``.

    "" for what is no host: some letters stand for punctuation, and would make another link of it.
    """
    labels = unicodedata.normalize("NFKC", host.lower()).replace("。", ".").split(".")
    plain = ".".join(map(_ascii_label, labels))
    names = plain.rpartition(":")[0] or plain
    if len(plain) > _MAX_HOST or any(len(label) > _MAX_LABEL for label in names.split(".")):
        return ""
    return plain if _HOST.fullmatch(plain) and any(c.isalnum() for c in plain) else ""


def _ascii_label(label: str) -> str:
    if label.isascii():
        return label
    name, colon, port = label.partition(":")
    # A long one is no host either, and takes long to encode.
    if len(name) > _MAX_LABEL or not all(c in "-_" or unicodedata.category(c)[0] in "LMN" for c in name):
        return "/"  # which no host holds
    coded = name.lower() if name.isascii() else "xn--" + name.lower().encode("punycode").decode("ascii")
    return coded + colon + port


def host_of(url: str) -> str:
    """Where a link of `find_links` leads, without user and port."""
    place = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    return place if place.endswith("]") else re.sub(r":\d*\Z", "", place)


def disguised(url: str) -> bool:
    """Whether a link begins with what looks like a host and is none: ``https://bank.example@elsewhere.example``."""
    return "@" in re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]


def osc8(url: str) -> tuple[str, str]:
    """What stands before and behind a link, shown as itself, so that a terminal makes it clickable as one.

    Never around another text than the link itself: that could name another place than it leads to. The terminal is told
    which parts are one link, where it wraps.

    Raises:
        ValueError: `url` is no http or https link without blanks and control characters.
    """
    if not re.fullmatch(r"https?://[^\s\x00-\x1f\x7f-\x9f]+", url):
        raise ValueError(f"{url!r} cannot be marked as a link")
    id = f"{zlib.crc32(url.encode('utf-8')):08x}"
    return f"\x1b]8;id={id};{quote(url, safe=_SAFE)}\x1b\\", "\x1b]8;;\x1b\\"
