"""Which format a file has, and what is refused at its first bytes."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tieline_client.errors import FormatError
from tieline_client.formats import FileFormat, Record, detect, open_records
from tieline_client.formats.block_reading import open_blocks

MD5 = "0123456789abcdef0123456789abcdef"
PDQ = MD5 * 2
ICSE = "MD5;SHA1;PhotoDNA;Image ID;Is distributed;Victim identified;Baseline\n"
NSRL = '"SHA-1","MD5","CRC32","FileName","FileSize","ProductCode","OpSystemCode","SpecialCode"\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    """Return a function that writes a file whose name says nothing."""

    def write_file(content: bytes) -> Path:
        path = tmp_path / "upload"
        path.write_bytes(content)
        return path

    return write_file


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ('{"@odata.context":"x#Media","value":[]}', FileFormat.VICS),
        ('\r\n {\r\n "odata.metadata" : "x#Cases","value":[]}', FileFormat.VICS),
        ('{"value":[]}', FileFormat.VICS),
        (ICSE, FileFormat.ICSE),
        (ICSE.upper(), FileFormat.ICSE),
        (ICSE.replace(";", ","), FileFormat.ICSE),
        ("%%%% HASHDEEP-1.0\n%%%% size,md5,filename\n", FileFormat.HASHDEEP),
        (NSRL, FileFormat.NSRL),
        ("<?xml version='1.0'?>\n<queryResult xmlns='x'></queryResult>", FileFormat.NCMEC),
        ("<n:queryResult xmlns:n='x'/>", FileFormat.NCMEC),
        ("md5;sha1;sha256;pdq;quality;category;series;media_type\n", FileFormat.CSV),
        ("PDQ;MD5\n", FileFormat.CSV),
        ("md5\n", FileFormat.CSV),
        ("MD5;Category;Is distributed;Victim identified\n", FileFormat.CSV),
        ("MD5;Kategorie;Baseline\n", FileFormat.CSV),
        ("MD5;Image ID;ZZ40;LACE;Investigation name;Agency\n", FileFormat.ICSE),
        (f"{MD5}\n", FileFormat.LIST),
        (f"# comment\n\n{MD5}", FileFormat.LIST),
        (f"{MD5}  name;md5;sha1\n", FileFormat.LIST),
        (f"{MD5}  Image ID,baseline,MD5\n", FileFormat.LIST),
        (f"SHA256 (x) = {PDQ}\n", FileFormat.LIST),
        (f"pdq:{PDQ}", FileFormat.LIST),
        (f"{PDQ},100", FileFormat.LIST),
        (f"a bad line first\n{MD5}\n", FileFormat.LIST),
        (f"# MD5\n{MD5}\n", FileFormat.LIST),
        (f"#PDQ\n\n  # sha-256:\n{PDQ}\n", FileFormat.LIST),
        (f"# md5;sha1;pdq\n{MD5}\n", FileFormat.LIST),
        ("# comment\n" * 60 + f"{MD5}\n", FileFormat.LIST),
        (f"# MD5\n\nmd5;category\n{MD5};1\n", FileFormat.CSV),
        (f"# SHA1\n{ICSE}", FileFormat.ICSE),
    ],
)
def test_by_content(write: Callable[[bytes], Path], text: str, stated: FileFormat) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert detect(write(text.encode(encoding))) is stated


def test_records_below_a_comment_that_names_their_digest(write: Callable[[bytes], Path]) -> None:
    (one,) = open_records(write(f"# PDQ\n{PDQ}\n".encode()))
    assert isinstance(one, Record) and one.pdq == bytes.fromhex(PDQ)
    (one,) = open_records(write(f"# sha-256:\n{PDQ}\n".encode()))
    assert isinstance(one, Record) and one.sha256 == bytes.fromhex(PDQ)
    for content in (f"# MD5\nmd5;category\n{MD5};1\n", f"# SHA1\n{ICSE}{MD5};;;;;;\n"):
        path = write(content.encode())
        (one,) = open_records(path)
        assert isinstance(one, Record) and one.md5 == bytes.fromhex(MD5)
        (block,) = open_blocks(path)
        assert block.columns is not None and len(block.columns) == 1


@pytest.mark.parametrize("before", ["# a long licence\n", "\n"])
def test_what_stands_behind_a_long_preface_is_not_denied(
    write: Callable[[bytes], Path], before: str
) -> None:
    path = write(f"{before * 20_000}{MD5}\n".encode())
    with pytest.raises(FormatError, match=r"its first 16384 bytes .* shorten what stands before"):
        detect(path)
    (record,) = open_records(path, FileFormat.LIST)
    assert isinstance(record, Record)


def test_only_the_head_is_read(write: Callable[[bytes], Path]) -> None:
    path = write(f"{MD5}\n".encode() * 1000)
    os.truncate(path, 1 << 33)  # sparse: eight gigabytes of zeros behind
    assert detect(path) is FileFormat.LIST


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("hashes.txt"))
    return stream.getvalue()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("hashes.txt", MD5)
    return stream.getvalue()


@pytest.mark.parametrize("stated", [None, *FileFormat])
@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"0" * 10_000_000),
        _zip(),
        _tar(),
        b"BZh91AY",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
    ],
    ids=["gzip", "zip", "tar", "bzip2", "xz", "zstd"],
)
def test_packed_files_are_to_be_unpacked(
    write: Callable[[bytes], Path], content: bytes, stated: FileFormat | None
) -> None:
    with pytest.raises(FormatError, match="unpack it"):
        open_records(write(content), stated)


@pytest.mark.parametrize("stated", [None, *FileFormat])
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"GIF89a",
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"RIFF\0\0\0\0AVI LIST",
        b"II*\0\x08\0\0\0",
        b"BM\x36\0\0\0\0\0\0\0",
        b"\0\0\0\x18ftypmp42",
        b"\0\0\0\x18ftypheic",
        b"\x1a\x45\xdf\xa3\x01\0",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        b"\0\0\x01\xba\x44",
        b"OggS\0",
    ],
    ids=lambda content: repr(content[:6]),
)
def test_media_is_refused_whatever_it_is_called(
    write: Callable[[bytes], Path], content: bytes, stated: FileFormat | None
) -> None:
    with pytest.raises(FormatError, match="this is not a hash list; Tieline never reads media"):
        open_records(write(content + bytes(1000)), stated)


def test_any_binary_file_is_refused(write: Callable[[bytes], Path]) -> None:
    for content in (b"\x7fELF\x02\x01\x01\0\0", bytes(range(256)), b"\x47" + bytes(187) + b"\x47"):
        with pytest.raises(FormatError, match="never reads media"):
            detect(write(content))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b" \r\n\t ", "white space"),
        (b"\xef\xbb\xbf", "white space"),
        (
            b"Dear colleague,\nthe list follows.\n",
            "the format is none of VICS JSON, CASE JSON-LD, ICSE-style CSV",
        ),
        (b'{"a": 1}', "not VICS"),
        (b"[1, 2]", "not VICS"),
        (b"<html></html>", "not NCMEC"),
        (b"abc123\n", "6 hex digits"),
        (b"# MD5\n\n", "nothing but comments"),
        (f"#md5;category\n{MD5};1\n".encode(), "the format is none of"),
        (b"name;size\nx;1\n", "none of"),
    ],
)
def test_what_is_none_of_them_is_told_which_there_are(
    write: Callable[[bytes], Path], content: bytes, why: str
) -> None:
    with pytest.raises(FormatError, match=why) as caught:
        detect(write(content))
    assert str(caught.value).startswith("upload: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for look in (open_records, detect):
        with pytest.raises(FormatError, match=r"absent: cannot be read: No such file"):
            look(tmp_path / "absent")
        with pytest.raises(FormatError, match="not a regular file"):
            look(tmp_path)
        with pytest.raises(FormatError, match="not a regular file"):
            look(tmp_path / "pipe")


def test_a_files_name_is_inert_in_messages(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m\nb"
    path.write_bytes(b"\x1b[31m what is this \x07")
    with pytest.raises(FormatError) as caught:
        open_records(path)
    assert str(caught.value).isprintable()
