"""What the tests read out of Markdown pages: fenced blocks, code spans, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (
    README,
    *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str

    @property
    def machine(self) -> str:
        """The machine that its first line names (``# on lisbon``), or ""."""
        found = re.match(r"# on (\w+)", self.text)
        return found[1] if found else ""

    @property
    def commands(self) -> str:
        """The text with continued lines joined."""
        return self.text.replace("\\\n", " ")


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    return [Block(language, text) for language, text in _FENCE.findall(page)]


def spans(page: str) -> list[str]:
    """Return the code spans outside of fenced blocks."""
    return _SPAN.findall(_FENCE.sub("", page))


def links(page: str) -> list[str]:
    """Return where the page links to."""
    return _LINK.findall(_FENCE.sub("", page))


def anchors(page: str) -> set[str]:
    """Return the anchors of the page's headings, as GitHub makes them."""
    found = set()
    for heading in _HEADING.findall(_FENCE.sub("", page)):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found
