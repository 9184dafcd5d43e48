"""Synthetic material: files of hashes of numbers, with overlaps planted and remembered."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tieline_client.formats import Record
from tieline_client.formats.record import Vote
from tieline_client.formats.write import write_csv, write_icse, write_vics

NEAR_BITS = 20
"""Bits by which a planted near duplicate's PDQ differs; a match is 31 at most."""


def item(name: str, *, digests: str = "md5 sha1 sha256 pdq") -> Record:
    """An item that exists only as the hashes of its name."""
    data = f"tieline synthetic item {name}".encode()
    record = Record(number=1)
    for label in digests.split():
        if label == "pdq":
            record.pdq = _pdq(random.Random(data).sample(range(256), 128))
            record.pdq_quality = 90
        else:
            setattr(record, label, hashlib.new(label, data, usedforsecurity=False).digest())
    return record


def near(record: Record, name: str) -> Record:
    """Another binary that looks almost the same: other exact digests, a PDQ some bits away."""
    other = item(name)
    assert record.pdq is not None
    known, rng = int.from_bytes(record.pdq), random.Random(name)
    bits = {bit for bit in range(256) if known >> bit & 1}
    gone = rng.sample(sorted(bits), NEAR_BITS // 2)
    came = rng.sample(sorted(set(range(256)) - bits), NEAR_BITS // 2)
    other.pdq = _pdq((bits - set(gone)) | set(came))
    return other


def _pdq(bits: Iterable[int]) -> bytes:
    """A hash of which these bits are set: half of them, as of every PDQ."""
    return sum(1 << bit for bit in bits).to_bytes(32)


@dataclass
class Material:
    """The files, and how many overlaps with each agency the hub's question must find."""

    files: dict[str, list[Path]] = field(default_factory=dict)
    question: Path = Path()
    planted: dict[str, set[int]] = field(default_factory=dict)
    asked: int = 0
    growth: Path = Path()


def _in_series(records: Iterable[Record], series: str, scheme: str, code: str) -> list[Record]:
    made = []
    for record in records:
        record.series = series
        record.votes = (Vote(scheme, code),)
        made.append(record)
    return made


def make(folder: Path) -> Material:
    """Write every agency's files into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    material = Material()
    harbour = [item(f"harbour {n}") for n in range(400)]
    attic = [item(f"attic {n}") for n in range(300)]
    garden = [item(f"garden {n}") for n in range(200)]

    def copies(source: list[Record], start: int, stop: int, digests: str) -> list[Record]:
        names = {id(harbour): "harbour", id(attic): "attic", id(garden): "garden"}
        return [item(f"{names[id(source)]} {n}", digests=digests) for n in range(start, stop)]

    # The hub's own collection: VICS 2.0 in cases, with holiday pictures that must not be stored.
    hub = (
        _in_series(harbour, "Harbour", "vics", "1")
        + _in_series(attic, "Attic", "vics", "2")
        + _in_series(garden, "Garden", "vics", "1")
        + _in_series([item(f"holiday {n}") for n in range(100)], "", "vics", "0")
    )
    _vics(material, "europol-ec3", folder / "ec3-vics20.json", hub, "2.0")
    # Portugal: our own CSV; 120 of Harbour by SHA-1 alone, 30 near duplicates of Attic.
    portugal = (
        copies(harbour, 0, 120, "sha1")
        + [near(attic[n], f"pt near {n}") for n in range(30)]
        + [item(f"pt {n}") for n in range(500)]
    )
    _table(
        material, "pt-pj", folder / "pt.csv", _in_series(portugal, "Operation Cais", "vics", "1")
    )
    # ICE: VICS 1.3 by MD5 and SHA-1; 90 of Attic.
    ice = copies(attic, 0, 90, "md5 sha1") + [
        item(f"ice {n}", digests="md5 sha1") for n in range(400)
    ]
    _vics(
        material,
        "us-ice",
        folder / "ice-vics13.json",
        _in_series(ice, "ICE Attic", "vics", "1"),
        "1.3",
    )
    # FBI: the same Attic by MD5 alone, 60 of it, and a plain list of SHA-256.
    fbi = copies(attic, 60, 120, "md5 sha1") + [
        item(f"fbi {n}", digests="md5 sha1") for n in range(300)
    ]
    _icse(material, "us-fbi", folder / "fbi-icse.csv", _in_series(fbi, "FBI room", "icse", "1"))
    listed = folder / "fbi-sha256.txt"
    lines = [item(f"garden {n}").sha256 or b"" for n in range(40)]
    listed.write_text("".join(f"{value.hex()}  item\n" for value in lines))
    material.files["us-fbi"].append(listed)
    # INTERPOL holds something already: 25 of Garden.
    interpol = copies(garden, 100, 125, "md5 sha1") + [item(f"interpol {n}") for n in range(200)]
    _icse(
        material,
        "interpol",
        folder / "interpol-icse.csv",
        _in_series(interpol, "Known", "icse", "1"),
    )
    # What the hub asks with: its own collection. Records are counted from 1.
    material.question = folder / "ec3-vics20.json"
    material.asked = 900
    material.planted = {
        "pt-pj": {*range(1, 121), *range(401, 431)},
        "us-ice": set(range(401, 491)),
        "us-fbi": {*range(461, 521), *range(701, 741)},
        "interpol": set(range(801, 826)),
    }
    material.growth = folder / "ec3-growth.csv"
    with material.growth.open("wb") as stream:
        write_csv(
            stream,
            _in_series([item(f"harbour later {n}") for n in range(50)], "Harbour", "vics", "1"),
        )
    return material


def _vics(material: Material, agency: str, path: Path, records: list[Record], version: str) -> None:
    with path.open("wb") as stream:
        write_vics(stream, records, version, country=None, shape="cases")
    material.files.setdefault(agency, []).append(path)


def _table(material: Material, agency: str, path: Path, records: list[Record]) -> None:
    with path.open("wb") as stream:
        write_csv(stream, records)
    material.files.setdefault(agency, []).append(path)


def _icse(material: Material, agency: str, path: Path, records: list[Record]) -> None:
    with path.open("wb") as stream:
        write_icse(stream, records)
    material.files.setdefault(agency, []).append(path)
