"""Makes names that users give safe for paths. PURE.

Everything that becomes part of a path in a ZIP or bucket must pass through here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from pathvalidate import sanitize_filename

STEM_BYTES_MAX = 100
LINK_CHARS_MAX = 255  # of the name of a source
MANIFEST, TABLE = "manifest.json", "manifest.csv"  # the files at the root of every ZIP
# Windows opens a device for these names: in any case, with any extension, with spaces before the dot.
# Superscript digits count as digits. https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"} | {
    f"{port}{digit}" for port in ("COM", "LPT") for digit in range(10)
}


def stem(name: str) -> str:
    """Return a folder name made from a file name: safe on Linux, macOS and Windows, and never empty.

    Directories, the extension, and control and bidirectional characters are removed; at most STEM_BYTES_MAX
    bytes remain.
    """
    base = PurePosixPath(name.replace("\\", "/")).name
    return safe(PurePosixPath(printable(base)).stem, STEM_BYTES_MAX) or "video"


def of_link(url: str) -> str:
    """Return the name of the file that a URL ends in, or `video`. Its query may be a key and is left out."""
    name = unquote(PurePosixPath(urlsplit(url).path).name).replace("\0", "")
    return name[:LINK_CHARS_MAX] or "video"


def printable(text: str) -> str:
    """Return a text in its composed form, without control and bidirectional characters."""
    return "".join(c for c in unicodedata.normalize("NFC", text) if unicodedata.category(c)[0] != "C")


def safe(text: str, bytes_max: int) -> str:
    """Return a printable text as the name of one file or folder. It is empty if nothing of it is allowed.

    A name that would open a device gets a "_" in front, within the limit.
    """
    while (made := _made_safe(text, bytes_max)) != text:  # a shortened name may be a reserved one
        text = made
    return text


def _made_safe(text: str, bytes_max: int) -> str:
    text = sanitize_filename(text, platform="universal")
    text = text.encode()[:bytes_max].decode(errors="ignore").strip(" .")
    return f"_{text}" if _is_device(text) else text


def _is_device(text: str) -> bool:
    return unicodedata.normalize("NFKC", text).partition(".")[0].strip().upper() in _DEVICES


def folders(names: Sequence[str]) -> list[str]:
    """Return one folder name for each file name. All differ, also where case is ignored.

    None equals the name of a manifest, which lies beside them.
    """
    taken = {MANIFEST, TABLE}
    return [_free(stem(name), taken) for name in names]


def _free(wanted: str, taken: set[str]) -> str:
    name, count = wanted, 1
    while name.casefold() in taken:
        count += 1
        name = f"{wanted}-{count}"
    taken.add(name.casefold())
    return name


def zip_name(name: str) -> str:
    """Return the name of the ZIP of a batch of this name."""
    whole = name.replace("/", "_").replace("\\", "_")
    return stem(f"{whole}.zip") + ".zip"


def content_disposition(name: str, *, inline: bool = False) -> str:
    """Return the header with which a browser saves (or shows) a file as `name`, which may hold any text.

    RFC 6266: an ASCII replacement for old clients, and the name itself in UTF-8.
    """
    kind = "inline" if inline else "attachment"
    plain = "".join(c if c.isascii() and (c.isalnum() or c in " ._-()") else "_" for c in name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
