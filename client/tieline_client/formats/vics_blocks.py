"""Media of a VICS file as columns.

What a record is made of is gathered field by field while the file flows through; every so many
media, what is ordinary in those lists becomes columns (blocks.py). A medium with anything else in
it (PhotoDNA, a flag in odd words, a digest of another length) is read by `MediaReader.record`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from types import NoneType
from typing import Any

from tieline_client.digests import DigestKind
from tieline_client.formats.blocks import Block, BlockBuilder, gathered
from tieline_client.formats.fields import read_text
from tieline_client.formats.flags import parse_flag
from tieline_client.formats.json_events import Fields
from tieline_client.formats.record import Record, Rejected, Vote
from tieline_client.formats.vics import VicsReader
from tieline_client.formats.vics_media import (
    ABSENT,
    ALTERNATIVES,
    NULL_CATEGORY,
    hash_name,
    plain,
)
from tieline_client.limits import ALTERNATIVE_HASHES, MEDIA_PER_BLOCK

_FLAGS = {
    "victim_identified": "VictimIdentified",
    "offender_identified": "OffenderIdentified",
    "distributed": "IsDistributed",
}
_FIELDS = (
    *("MD5", "SHA1", "PhotoDNA", "MediaSize", "MimeType", "Category", *_FLAGS.values()),
    *("Series", "DateUpdated", "AlternativeHashes"),
)
_SIZE_MOST = 2**63 - 1
_DATE_CHARS = 40
_FLAG_CODES: dict[object, int] = {ABSENT: 0, None: 0, False: 1, True: 2}
_TEXT_OR_NONE = {str, NoneType, type(ABSENT)}

Cells = list[str]


def read_vics_blocks(chunks: Iterable[bytes], name: str) -> Iterator[Block]:
    """Yield the media of a VICS file given as chunks of UTF-8; errors are those of `read_vics`."""
    reader = VicsReader(chunks, name)
    media = _Media(reader)
    singles: list[Record | Rejected] = []
    for found in reader.read():
        if isinstance(found, list):
            if singles:
                yield gathered(singles)
                singles = []
            media.add(found)
            if media.count >= MEDIA_PER_BLOCK:
                yield media.block()
            continue
        if media.count:
            yield media.block()
        singles.append(found)
        if len(singles) >= MEDIA_PER_BLOCK:
            yield gathered(singles)
            singles = []
    if media.count:
        yield media.block()
    if singles:
        yield gathered(singles)


class _Media:
    """Media on their way into a block: one list for each field that is read."""

    def __init__(self, reader: VicsReader) -> None:
        self._reader = reader
        self._values: dict[str, list[Any]] = {name: [] for name in _FIELDS}
        self._first = 0
        self.count = 0

    def add(self, media: list[Fields]) -> None:
        """Take more of them; they count for the reader."""
        if not self.count:
            self._first = self._reader.number + 1
        for name, values in self._values.items():
            values += [fields.get(name, ABSENT) for fields in media]
        self.count += len(media)
        self._reader.number += len(media)

    def block(self) -> Block:
        """Return what was gathered, and begin anew."""
        values, first, count = self._values, self._first, self.count
        self._values, self.count = {name: [] for name in _FIELDS}, 0
        builder = BlockBuilder(first, count, entire=False)
        _take_digests(builder, values)
        builder.sizes(_sizes(builder, values["MediaSize"]))
        types = _texts(builder, values["MimeType"])
        builder.media_types(types, partial(read_text, name="MimeType"))
        names = _texts(builder, list(map(_series_name, values["Series"])))
        builder.series(names, partial(read_text, name="Series"))
        builder.votes(_categories(builder, values["Category"]), self._category)
        for flag, name in _FLAGS.items():
            builder.flags(flag, _flag_codes(builder, values[name]))
        _check_dates(builder, values["DateUpdated"])

        def parse(at: int) -> Record | Rejected:
            fields = {
                name: value
                for name, column in values.items()
                if (value := column[at]) is not ABSENT
            }
            return self._reader.media.record(first + at, plain(fields))

        return builder.finish(parse)

    def _category(self, value: object) -> tuple[Vote, ...]:
        return self._reader.media.category(value, [])


def _take_digests(builder: BlockBuilder, values: dict[str, list[Any]]) -> None:
    count = len(values["MD5"])
    cells = {
        DigestKind.MD5: _texts(builder, values["MD5"]),
        DigestKind.SHA1: _texts(builder, values["SHA1"]),
        DigestKind.SHA256: [""] * count,
        DigestKind.PDQ: [""] * count,
    }
    kinds: dict[str, DigestKind | None] = {}
    for at, entries in enumerate(values["AlternativeHashes"]):
        if entries is ABSENT or entries is None:
            continue
        if type(entries) is not list or not _alternatives(entries, at, cells, kinds):
            builder.odd((at,))
    for kind, column in cells.items():
        builder.digests(kind, column)
    builder.odd(
        at
        for at, value in enumerate(values["PhotoDNA"])
        if value is not ABSENT and value is not None and value != ""
    )


def _alternatives(
    entries: list[Any],
    at: int,
    cells: dict[DigestKind, Cells],
    kinds: dict[str, DigestKind | None],
) -> bool:
    """Add AlternativeHashes to the medium's own digests; False where one is odd."""
    if len(entries) > ALTERNATIVE_HASHES:
        return False
    for entry in entries:
        name = entry.get("HashName") if type(entry) is dict else None
        if type(name) is not str:
            continue
        if name not in kinds:
            kinds[name] = ALTERNATIVES.get(hash_name(name))
        kind = kinds[name]
        if kind is None:
            if hash_name(name) == "photodna":
                return False
            continue
        md5, own, value = cells[DigestKind.MD5][at], entry.get("MD5"), entry.get("HashValue")
        if own not in (None, "", md5):
            return False
        if value is None or value == "":
            continue
        stated = cells[kind][at]
        if type(value) is not str or stated not in ("", value):
            return False
        cells[kind][at] = value
    return True


def _texts(builder: BlockBuilder, values: list[Any]) -> Cells:
    """Return texts, "" for what is absent or null; anything else is odd."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return list(values)
    if not kinds <= _TEXT_OR_NONE:
        builder.odd(at for at, value in enumerate(values) if type(value) not in _TEXT_OR_NONE)
    return [value if type(value) is str else "" for value in values]


def _series_name(value: Any) -> Any:
    return value.get("Name") if type(value) is dict else value


def _sizes(builder: BlockBuilder, values: list[Any]) -> list[int]:
    """Return sizes, -1 for what is absent or null; what is no plain number is odd."""
    if set(map(type, values)) == {int} and min(values) >= 0 and max(values) <= _SIZE_MOST:
        return values
    sizes = []
    for at, value in enumerate(values):
        absent = value is ABSENT or value is None or value == ""
        ordinary = type(value) is int and 0 <= value <= _SIZE_MOST
        sizes.append(value if ordinary else -1)
        if not absent and not ordinary:
            if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 18:
                sizes[-1] = int(value)
            else:
                builder.odd((at,))
    return sizes


def _categories(builder: BlockBuilder, values: list[Any]) -> list[Any]:
    """Return categories that can be told apart as keys: 1, True and 1.0 are the same key."""
    kinds = set(map(type, values))
    if not kinds <= {int, *_TEXT_OR_NONE}:
        odd = {at for at, v in enumerate(values) if type(v) not in {int, *_TEXT_OR_NONE}}
        builder.odd(odd)
        values = [ABSENT if at in odd else value for at, value in enumerate(values)]
    if NoneType in kinds:
        for at, value in enumerate(values):
            if value is None:
                builder.note(at, NULL_CATEGORY)
    return values


def _flag_codes(builder: BlockBuilder, values: list[Any]) -> list[int]:
    """Return flags as codes; what is neither a boolean nor a known word is odd."""
    if set(map(type, values)) <= {bool, NoneType, type(ABSENT)}:
        return [_FLAG_CODES[value] for value in values]
    words = {value: _word_code(value) for value in values if type(value) is str}
    codes = []
    for at, value in enumerate(values):
        kind = type(value)
        if kind is str:
            code = words[value]
        else:
            code = _FLAG_CODES[value] if kind in {bool, NoneType, type(ABSENT)} else None
        if code is None:
            builder.odd((at,))
        codes.append(code or 0)
    return codes


def _word_code(word: str) -> int | None:
    try:
        return _FLAG_CODES[parse_flag(word)]
    except ValueError:
        return None


def _check_dates(builder: BlockBuilder, values: list[Any]) -> None:
    """Times are not sent; one that cannot be read is noted (by the record reader)."""
    for at, value in enumerate(values):
        if value is ABSENT or value is None or value == "":
            continue
        try:
            if not "0002" <= value[:4] <= "9998" or len(value) > _DATE_CHARS:
                raise ValueError
            datetime.fromisoformat(value)
        except (ValueError, TypeError):
            builder.odd((at,))
