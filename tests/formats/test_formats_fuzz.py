"""No content whatever makes a reader raise anything but FormatError."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tieline_client.errors import FormatError
from tieline_client.formats import FileFormat, Record, Rejected, detect, open_records
from tieline_client.formats.case_terms import UCO

MD5 = "0123456789abcdef0123456789abcdef"
VALID = {
    FileFormat.VICS: (
        '{"@odata.context":"x/2.0.xml/US/$metadata#Cases","value":[{"CaseID":"1","Media":['
        f'{{"MD5":"{MD5}","MediaID":1,"Category":1,"MediaSize":"5","Series":{{"Name":"é"}},'
        f'"DateUpdated":"2020-01-02T03:04:05+1:00Z","VictimIdentified":"true",'
        f'"AlternativeHashes":[{{"HashName":"PDQ","HashValue":"{MD5}{MD5}"}}]}}]}}]}}'
    ),
    FileFormat.ICSE: (
        "MD5;SHA1;Image ID;Is distributed;Series name;Number of submissions;Baseline\r\n"
        f'{MD5};{MD5}01234567;1;y;"a;é";5;n\r\n'
    ),
    FileFormat.HASHDEEP: f"%%%% HASHDEEP-1.0\n%%%% size,md5,filename\n## x\n5,{MD5},a,b\n",
    FileFormat.NSRL: (
        '"SHA-1","MD5","CRC32","FileName","FileSize","ProductCode","OpSystemCode","SpecialCode"\n'
        f'"{MD5}01234567","{MD5}","0","é",5,1,"x",""\n'
    ),
    FileFormat.NCMEC: (
        '<?xml version="1.0"?><queryResult xmlns="x"><images><image><member id="1">M</member>'
        f"<timestamp>2020-01-02T03:04:05Z</timestamp><id>1</id><classification>A1</classification>"
        f"<fingerprints><md5>{MD5}</md5></fingerprints></image></images></queryResult>"
    ),
    FileFormat.LIST: f"# x\n{MD5}  é\n\\SHA1 (x) = {MD5}01234567\npdq:{MD5}{MD5},50\n",
    FileFormat.CASE: json.dumps(
        {
            "@context": {"core": f"{UCO}core/", "@vocab": f"{UCO}observable/"},
            "@graph": [
                {
                    "@id": "kb:1",
                    "core:hasFacet": [
                        {"@type": "ContentDataFacet", "hash": {"@id": "_:1"}, "sizeInBytes": 5}
                    ],
                    "core:tag": ["category=vics-us:1", "baseline=true", "other"],
                    "core:modifiedTime": {"@value": "2020-01-02T03:04:05Z"},
                    "core:externalReference": {
                        "core:definingContext": "icse",
                        "core:externalIdentifier": "7",
                    },
                },
                {
                    "@id": "kb:s",
                    "@type": "core:Grouping",
                    "core:name": "é",
                    "core:object": [{"@id": "kb:1"}],
                },
                {
                    "@id": "_:1",
                    f"{UCO}types/hashMethod": "MD5",
                    f"{UCO}types/hashValue": {"@type": "x", "@value": MD5},
                },
            ],
        }
    ),
    FileFormat.CSV: f'md5;pdq;quality;category;series\n{MD5};{MD5}{MD5};50;vics-us:1;"é;"\n',
}
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@pytest.fixture
def outcome(tmp_path: Path) -> Callable[[bytes, FileFormat | None], None]:
    """Return a function that reads content and checks how it may end."""

    def read(content: bytes, stated: FileFormat | None) -> None:
        path = tmp_path / "fuzzed"
        path.write_bytes(content)
        try:
            numbers = []
            for each in open_records(path, stated):
                assert isinstance(each, Record | Rejected)
                if isinstance(each, Rejected):
                    assert each.reason.isprintable(), each
                numbers.append(each[0] if isinstance(each, Rejected) else each.number)
            assert numbers == list(range(1, len(numbers) + 1))
        except FormatError as error:
            assert str(error).isprintable(), error

    return read


@pytest.mark.parametrize("stated", VALID)
def test_the_seeds_are_valid(tmp_path: Path, stated: FileFormat) -> None:
    path = tmp_path / "seed"
    path.write_bytes(VALID[stated].encode("latin-1" if stated is FileFormat.NSRL else "utf-8"))
    assert detect(path) is stated
    assert all(isinstance(each, Record) and not each.notes for each in open_records(path))


@SHARED
@given(content=st.binary(max_size=400), stated=st.sampled_from([None, *FileFormat]))
def test_random_bytes(
    outcome: Callable[[bytes, FileFormat | None], None], content: bytes, stated: FileFormat | None
) -> None:
    outcome(content, stated)


@SHARED
@given(content=st.text(max_size=400), stated=st.sampled_from([None, *FileFormat]))
def test_random_text(
    outcome: Callable[[bytes, FileFormat | None], None], content: str, stated: FileFormat | None
) -> None:
    outcome(content.encode("utf-8", "replace"), stated)


@pytest.mark.parametrize("stated", VALID)
@SHARED
@given(data=st.data())
def test_mutated_files(
    outcome: Callable[[bytes, FileFormat | None], None], stated: FileFormat, data: st.DataObject
) -> None:
    content = bytearray(VALID[stated].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 20))
        piece = data.draw(
            st.binary(max_size=8)
            | st.sampled_from([b"\0", b'"', b"{", b"[", b"]", b"<", b"&x;", b"\n", b";", b"1e999"])
            | st.just(bytes(content[at : at + length]) * 2)
        )
        content[at : at + length] = piece
    for hint in (stated, None):
        outcome(bytes(content), hint)


@SHARED
@given(data=st.data())
def test_mutated_databases(
    outcome: Callable[[bytes, FileFormat | None], None],
    tmp_path: Path,
    data: st.DataObject,
) -> None:
    path = tmp_path / "seed.db"
    if not path.exists():
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                f"PRAGMA page_size=512; CREATE TABLE FILE (md5 TEXT, file_size INT); "
                f"INSERT INTO FILE VALUES ('{MD5}', 5);"
            )
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(16, len(content) - 1))] = data.draw(st.integers(0, 255))
    outcome(bytes(content), FileFormat.NSRL)
