"""Names of outputs after a user's template, such as `{source}_{n}`. PURE.

A template gives the name of a file within the folder of its source, without its ending. So only outputs of
one source can get the same name, and a number tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from control.domain.filenames import printable, safe

PLACEHOLDERS = ("source", "n", "tag", "seed", "width", "height", "date")
TEMPLATE_CHARS_MAX = 200
# With the folder and the longest ending, a path stays below the 260 characters of Windows.
FILE_BYTES_MAX = 150
SAME_NAME = "several variations of a video would get the same name: add {n}"

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ENDING = re.compile(r"\.(mp4|mov)$", re.IGNORECASE)
_ALL = " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
_MISSING = {
    **dict.fromkeys(("n", "tag"), "numbers variations, and a preset makes one file of each video"),
    **dict.fromkeys(("width", "height"), "of a link is not known before it is fetched"),
}
_LONGEST = {
    "source": "x",  # a longer one is shortened
    "n": "100",
    "tag": "ffffff",
    "seed": str(2**63 - 1),
    "width": "8192",
    "height": "8192",
    "date": "2026-01-01",
}


class NameRefused(ValueError):
    """No name can be made. The text says why and what to do."""


class NameTemplate:
    """A template that was read. Raises NameRefused for a path, and for braces around anything unknown."""

    def __init__(self, text: str) -> None:
        self.text = text
        if set("/\\\0") & set(text):
            raise NameRefused("it names a file and not a path: leave out slashes, backslashes and NUL")
        self._pieces = _PLACEHOLDER.split(_ENDING.sub("", text))  # text and placeholder by turns
        if unknown := sorted(self.placeholders - set(PLACEHOLDERS)):
            raise NameRefused(f"there is no placeholder {{{unknown[0][:30]}}}; there are {_ALL}")
        if any("{" in piece or "}" in piece for piece in self._pieces[::2]):
            raise NameRefused(f"braces belong around a placeholder only; there are {_ALL}")

    @property
    def placeholders(self) -> set[str]:
        """The names of its placeholders."""
        return set(self._pieces[1::2])

    def file_name(self, values: Mapping[str, str]) -> str:
        """Return the name with these values of the placeholders, safe on Linux, macOS and Windows.

        If it gets too long, the name of the source is shortened. Raises NameRefused if a value is missing,
        if nothing of the name is allowed, and if the rest alone is too long.
        """
        if missing := sorted(self.placeholders - set(values)):
            raise NameRefused(f"{{{missing[0]}}} {_MISSING[missing[0]]}: leave it out")
        text = printable(self._filled({**values, "source": self._shortened(values)}))
        if len(text.encode()) >= FILE_BYTES_MAX:  # one byte is left, since `safe` may add a character
            raise NameRefused(f"names would have more than {FILE_BYTES_MAX - 1} bytes: shorten it")
        if name := safe(text, FILE_BYTES_MAX):
            return name
        raise NameRefused("nothing of it may stand in the name of a file: add {source}")

    def _shortened(self, values: Mapping[str, str]) -> str:
        rest = len(self._filled({**values, "source": ""}).encode())
        times = max(1, self._pieces[1::2].count("source"))
        room = max(0, FILE_BYTES_MAX - 1 - rest) // times
        return values["source"].encode()[:room].decode(errors="ignore")

    def _filled(self, values: Mapping[str, str]) -> str:
        pieces = self._pieces
        return "".join(piece if number % 2 == 0 else values[piece] for number, piece in enumerate(pieces))


def why_refused(text: str, *, variations: int | None, has_links: bool) -> str | None:
    """Return why a submit cannot use a template, and what to do, or None if it can.

    `variations` is None for a preset. Only tags that happen to be equal are found later, by the plan.
    """
    unknown = {"n", "tag"} if variations is None else set[str]()
    if has_links:
        unknown |= {"width", "height"}
    try:
        template = NameTemplate(text)
        template.file_name({name: value for name, value in _LONGEST.items() if name not in unknown})
    except NameRefused as why:
        return str(why)
    is_same = variations is not None and variations > 1 and not {"n", "tag"} & template.placeholders
    return SAME_NAME if is_same else None


def require_different(names: Iterable[str]) -> None:
    """Raise NameRefused if two names are equal, also where case is ignored."""
    seen = [name.casefold() for name in names]
    if len(set(seen)) < len(seen):
        raise NameRefused(SAME_NAME)
