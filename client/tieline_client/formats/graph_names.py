"""Names in a JSON-LD document: from what stands there to whole names (JSON-LD 1.1, section 3.1).

Only what the document itself says counts. A context at an address is refused: nothing is ever
fetched. What does more than give names (scoped contexts, reversed properties, nesting) is refused
too, since passing over it would change what the document says.
"""

from __future__ import annotations

from typing import Any

from tieline_client.formats.fields import shown
from tieline_client.formats.json_events import Fields
from tieline_client.limits import GRAPH_TERM_STEPS, GRAPH_TERMS

_ADDRESS = (
    "its @context is at an address, and nothing is ever fetched; "
    "put the context itself into the file"
)
_PLAIN = frozenset({"@version", "@base", "@language", "@direction", "@protected"})
"""Parts of a context that change no name here."""
_OF_A_TERM = frozenset({"@id", "@type", "@container", "@language", "@direction", "@protected"})
_CONTAINERS = frozenset({"@set", "@list", "@language"})
_KNOWN_MOST = 4_096


class UnreadContext(ValueError):
    """A context that is not read; the message says why."""


class Names:
    """What the names of a document stand for. Raises UnreadContext."""

    def __init__(self) -> None:
        self._terms: dict[str, str] = {}
        self._vocabulary = ""
        self._known: dict[str, str] = {}

    def take(self, context: Any) -> None:
        """Add a document's context: an object of names, or a list of such."""
        self._known.clear()
        for part in context if isinstance(context, list) else [context]:
            if isinstance(part, str):
                raise UnreadContext(_ADDRESS)
            if part is None:
                self._terms.clear()
                self._vocabulary = ""
            elif isinstance(part, dict):
                self._take_names(part)
            else:
                raise UnreadContext("its @context is neither an object nor a list of objects")

    def _take_names(self, part: Fields) -> None:
        vocabulary = part.get("@vocab")
        if "@import" in part:
            raise UnreadContext(_ADDRESS)
        if vocabulary is not None and not isinstance(vocabulary, str):
            raise UnreadContext("its @vocab is not a text")
        raw = {}
        for term, value in part.items():
            if term.startswith("@"):
                if term != "@vocab" and term not in _PLAIN:
                    raise UnreadContext(f"its @context says {shown(term)}, which is not read")
                continue
            raw[term] = _of_term(term, value)
        if len(self._terms) + len(raw) > GRAPH_TERMS:
            raise UnreadContext(f"its @context has more than {GRAPH_TERMS} names")
        for term in raw:
            self._terms[term] = self._resolved(term, raw)
        if vocabulary is not None:
            self._vocabulary = self._resolved(vocabulary, raw) if ":" in vocabulary else vocabulary
        self._known.clear()

    def _resolved(self, name: str, raw: dict[str, str]) -> str:
        """Follow a name through the names beside it."""
        tail = ""
        for _ in range(GRAPH_TERM_STEPS):
            if name in raw and raw[name] != name:
                name = raw[name]
                continue
            prefix, colon, rest = name.partition(":")
            if not colon or rest.startswith("//") or prefix not in raw:
                return self.whole(name) + tail
            name, tail = raw[prefix], rest + tail
        raise UnreadContext(f"its @context explains {shown(name)} by itself")

    def whole(self, name: str) -> str:
        """Return the whole name of a property or type; "" for one that stands for nothing."""
        known = self._known.get(name)
        if known is None:
            known = self._whole(name)
            if len(self._known) < _KNOWN_MOST:
                self._known[name] = known
        return known

    def _whole(self, name: str) -> str:
        if name.startswith("@"):
            return name
        if name in self._terms:
            return self._terms[name]
        prefix, colon, rest = name.partition(":")
        if colon:
            if not rest.startswith("//") and prefix in self._terms:
                return self._terms[prefix] + rest
            return name
        return self._vocabulary + name if self._vocabulary else ""

    def node(self, name: str) -> str:
        """Return the whole name of a node; one without a known prefix stays as it is."""
        prefix, colon, rest = name.partition(":")
        if colon and not rest.startswith("//") and prefix in self._terms:
            return self._terms[prefix] + rest
        return name


def _of_term(term: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise UnreadContext(f"its @context explains {shown(term)} by neither a name nor an object")
    unread = bool(value.keys() - _OF_A_TERM)
    containers = value.get("@container")
    listed = containers if isinstance(containers, list) else [containers]
    unread = unread or any(
        one is not None and not (isinstance(one, str) and one in _CONTAINERS) for one in listed
    )
    if unread:
        raise UnreadContext(
            f"its @context says more of {shown(term)} than its name, which is not read"
        )
    name = value.get("@id", term)
    if name is not None and not isinstance(name, str):
        raise UnreadContext(f"its @context explains {shown(term)} by no name")
    return name or ""
