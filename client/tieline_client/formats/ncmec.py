"""NCMEC hash-sharing XML (API v2): entries of images and videos, and their tombstones.

The parser is fed a chunk at a time and keeps no tree, so memory does not grow with the file.
defusedxml refuses a document type, with it every entity and external reference. An entry is named
by its member and id; entries are not in time order, so each carries its time as ``updated``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from tieline_client.digests import DigestKind
from tieline_client.errors import FormatError
from tieline_client.formats.fields import (
    BadRecord,
    check_identified,
    read_digest,
    read_photodna,
    read_text,
    read_vote,
    set_updated,
    shown,
)
from tieline_client.formats.record import Record, Rejected
from tieline_client.limits import RECORD_BYTES, REFERENCE_CHARS, XML_DEPTH, XML_TOKEN_BYTES

ROOT = "queryResult"
SCHEME = "ncmec"
_ENTRIES = {
    "image": ("image", False),
    "video": ("video", False),
    "deletedImage": ("image", True),
    "deletedVideo": ("video", True),
}
_FINGERPRINTS = {"md5": DigestKind.MD5, "sha1": DigestKind.SHA1, "pdq": DigestKind.PDQ}
_PHOTODNA = ("pdna", "photodna")
_FIELDS = ("member", "id", "timestamp", "classification")
_FIELD_CHARS = 2_000


def read_ncmec(chunks: Iterable[bytes], name: str) -> Iterator[Record | Rejected]:
    """Yield the entries of one file of the API's answers; tombstones have ``deleted`` set.

    Raises FormatError, naming the record, when the XML is broken, truncated, too deep, declares a
    document type, or is no answer of that API.
    """
    target = _Target(name)
    parser = DefusedXMLParser(
        target=target, forbid_dtd=True, forbid_entities=True, forbid_external=True
    )
    quiet = 0
    for chunk in chunks:
        target.heard = False
        _feed(parser, chunk, target)
        quiet = 0 if target.heard else quiet + len(chunk)
        if quiet > XML_TOKEN_BYTES:
            raise target.fault(f"a tag or comment is longer than {XML_TOKEN_BYTES} bytes")
        yield from target.take()
        if target.failure is not None:
            raise target.failure
        target.count(len(chunk))
    _feed(parser, None, target)
    yield from target.take()
    if target.failure is not None:
        raise target.failure


def _feed(parser: DefusedXMLParser, chunk: bytes | None, target: _Target) -> None:
    """Parse a chunk, None being the end; keep a failure until the records before it are out."""
    try:
        if chunk is None:
            parser.close()
        else:
            parser.feed(chunk)
    except FormatError as error:
        target.failure = error
    except DefusedXmlException:
        target.failure = target.fault("it declares a document type or entities; remove them")
    except ParseError as error:
        ended = chunk is None
        why = "the XML ends in the middle; the file is truncated" if ended else str(error)
        target.failure = target.fault(why if ended else f"broken XML: {why[:120]}")
    except (ValueError, LookupError):
        target.failure = target.fault("its encoding cannot be read; save it as UTF-8")


class _Target:
    """Takes the parser's events and keeps the fields of the entry in progress."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard = False
        self.failure: FormatError | None = None
        self._path: list[str] = []
        self._entry_depth = 0
        self._entry_bytes = 0
        self._entry: dict[str, str] = {}
        self._fingerprints: list[tuple[str, str]] = []
        self._negative: list[str] = []
        self._text: list[str] | None = None
        self._text_chars = 0
        self._text_depth = 0
        self._number = 0
        self._done: list[Record | Rejected] = []

    def take(self) -> list[Record | Rejected]:
        """Return the records finished since the last call."""
        done, self._done = self._done, []
        return done

    def fault(self, why: str) -> FormatError:
        return FormatError(self.name, self._number + 1 if self._entry_depth else None, why)

    def count(self, size: int) -> None:
        self._entry_bytes = self._entry_bytes + size if self._entry_depth else 0
        if self._entry_bytes > RECORD_BYTES:
            raise self.fault(f"a record is longer than {RECORD_BYTES} bytes")

    # --- called by the parser ---

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.heard = True
        tag = tag.rpartition("}")[2]
        path = self._path
        if not path and tag != ROOT:
            raise self.fault(f"not NCMEC hash sharing: the root is {shown(tag)}, not {ROOT}")
        path.append(tag)
        if len(path) > XML_DEPTH:
            raise self.fault(f"nested more than {XML_DEPTH} deep")
        within = len(path) - self._entry_depth
        if not self._entry_depth:
            if tag in _ENTRIES:
                self._begin(len(path))
        elif within == 1 and tag in _FIELDS:
            if tag in self._entry:
                raise self.fault(f"an entry has two elements {tag}")
            self._entry[tag] = ""
            if tag == "member":
                self._entry["member id"] = attributes.get("id", "")
            self._listen()
        elif within == 2 and path[-2] == "fingerprints":
            self._listen()
        elif within == 2 and tag == "negativeFeedback":
            self._negative.append(attributes.get("type", "")[:_FIELD_CHARS])

    def data(self, text: str) -> None:
        self.heard = True
        if self._text is not None:
            self._text_chars += len(text)
            if self._text_chars > _FIELD_CHARS:
                raise self.fault(f"{self._path[-1]} is longer than {_FIELD_CHARS} characters")
            self._text.append(text)

    def end(self, tag: str) -> None:
        self.heard = True
        tag = tag.rpartition("}")[2]
        if self._text is not None and len(self._path) == self._text_depth:
            text = "".join(self._text).strip()
            self._text = None
            if self._path[-2] == "fingerprints":
                if text:
                    self._fingerprints.append((tag.lower(), text))
            else:
                self._entry[tag] = text
        elif len(self._path) == self._entry_depth:
            self._finish(tag)
        self._path.pop()

    def close(self) -> None:
        """Required of a target; the reader takes the records itself."""

    # --- one entry ---

    def _begin(self, depth: int) -> None:
        self._entry_depth = depth
        self._entry_bytes = 0
        self._entry = {}
        self._fingerprints = []
        self._negative = []

    def _listen(self) -> None:
        self._text = []
        self._text_chars = 0
        self._text_depth = len(self._path)

    def _finish(self, tag: str) -> None:
        self._number += 1
        self._entry_depth = 0
        try:
            self._done.append(self._record(*_ENTRIES[tag]))
        except BadRecord as error:
            self._done.append(Rejected(self._number, error.message))

    def _record(self, media_type: str, deleted: bool) -> Record:
        notes: list[str] = []
        entry = self._entry
        record = Record(self._number, media_type=media_type, entire=True, deleted=deleted)
        identity = read_text(entry.get("id"), "id", REFERENCE_CHARS)
        member = read_text(entry.get("member id"), "member", REFERENCE_CHARS)
        if identity is None or member is None:
            raise BadRecord("an entry without its id or its member's id")
        reference = read_text(f"{member}/{identity}", "member and id", REFERENCE_CHARS)
        record.references = ((SCHEME, reference or ""),)
        set_updated(record, entry.get("timestamp"), "timestamp", notes)
        vote = read_vote(entry.get("classification"), "classification", SCHEME)
        if vote is not None:
            record.votes = (vote,)
        for kind_name, text in self._fingerprints:
            _take_fingerprint(record, kind_name, text, notes)
        if not deleted:
            check_identified(record)
        for kind_name in sorted(set(self._negative)):
            notes.append(f"NCMEC members gave negative feedback on {shown(kind_name)}")
        record.notes = tuple(notes)
        return record


def _take_fingerprint(record: Record, kind_name: str, text: str, notes: list[str]) -> None:
    if kind_name in _PHOTODNA:
        record.photodna = record.photodna or read_photodna(text, notes)
        return
    kind = _FINGERPRINTS.get(kind_name)
    if kind is None:
        return
    digest = read_digest(kind, text)
    stated = getattr(record, kind.label)
    if stated is None:
        setattr(record, kind.label, digest)
    elif stated != digest:
        notes.append(f"a second {kind.label} fingerprint; set aside")
