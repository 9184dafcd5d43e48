"""md5sum and its kin, hashdeep, one hash a line, PDQ lists."""

from __future__ import annotations

import codecs
from collections.abc import Callable

import pytest
from tieline_client.digests import DigestKind
from tieline_client.errors import FormatError
from tieline_client.formats import FileFormat, Record, Rejected

MD5 = "0123456789abcdef0123456789abcdef"
SHA1 = MD5 + "01234567"
HEX64 = MD5 * 2

One = Callable[..., Record]
Many = Callable[..., list[Record | Rejected]]


def stated(record: Record) -> tuple[DigestKind, str]:
    ((kind, digest),) = [
        (kind, getattr(record, kind.label))
        for kind in DigestKind
        if getattr(record, kind.label) is not None
    ]
    return kind, digest.hex()


@pytest.mark.parametrize(
    ("line", "kind", "digits"),
    [
        # bare and prefixed
        (MD5, DigestKind.MD5, MD5),
        (MD5.upper(), DigestKind.MD5, MD5),
        (SHA1, DigestKind.SHA1, SHA1),
        (HEX64, DigestKind.SHA256, HEX64),
        (f"  {MD5}  ", DigestKind.MD5, MD5),
        (f"md5:{MD5}", DigestKind.MD5, MD5),
        (f"MD5: {MD5}", DigestKind.MD5, MD5),
        (f"sha1:{SHA1}", DigestKind.SHA1, SHA1),
        (f"sha-1:{SHA1}", DigestKind.SHA1, SHA1),
        (f"sha256:{HEX64}", DigestKind.SHA256, HEX64),
        (f"pdq:{HEX64}", DigestKind.PDQ, HEX64),
        # GNU coreutils
        (f"{MD5}  name.jpg", DigestKind.MD5, MD5),
        (f"{MD5} *name.jpg", DigestKind.MD5, MD5),
        (f"{SHA1}  dir/a b.jpg", DigestKind.SHA1, SHA1),
        (f"{HEX64}  -", DigestKind.SHA256, HEX64),
        (f"{HEX64}  100", DigestKind.SHA256, HEX64),
        (f"\\{MD5}  a\\nb\\\\c", DigestKind.MD5, MD5),
        (f"{MD5}  SHA256 (x) = {HEX64}", DigestKind.MD5, MD5),
        (f"{MD5}  a;md5;pdq", DigestKind.MD5, MD5),
        # BSD, `--tag`, openssl, `md5 -r`
        (f"MD5 (name.jpg) = {MD5}", DigestKind.MD5, MD5),
        (f"SHA1 (a) b (c)) = {SHA1}", DigestKind.SHA1, SHA1),
        (f"SHA256 (x) = {HEX64}", DigestKind.SHA256, HEX64),
        (f"\\SHA256 (a\\nb) = {HEX64}", DigestKind.SHA256, HEX64),
        (f"SHA2-256(x)= {HEX64}", DigestKind.SHA256, HEX64),
        (f"{MD5} name.jpg", DigestKind.MD5, MD5),
    ],
)
def test_every_style(read_one: One, line: str, kind: DigestKind, digits: str) -> None:
    for end in ("", "\n", "\r\n"):
        record = read_one(line + end)
        assert stated(record) == (kind, digits)
        assert record.entire is True
        assert record.votes == ()


def test_styles_mix_and_blank_lines_and_comments_are_no_records(read: Many) -> None:
    text = f"# a comment\n\n{MD5}\n  \nsha1:{SHA1}\n# more\nSHA256 (x) = {HEX64}\n"
    assert [stated(each) for each in read(text) if isinstance(each, Record)] == [
        (DigestKind.MD5, MD5),
        (DigestKind.SHA1, SHA1),
        (DigestKind.SHA256, HEX64),
    ]
    assert [each.number for each in read(text) if isinstance(each, Record)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (MD5[:-1], "31 hex digits"),
        (MD5 + "00", "34 hex digits"),
        (MD5 * 4, "128 hex digits"),
        (f"{MD5 * 4}  name", "128 hex digits"),
        (f"md5:{SHA1}", "md5"),
        ("md5:", "md5"),
        (f"sha512:{MD5}", "sha512"),
        (f"SHA512 (x) = {MD5}", "SHA512"),
        (f"MD5 (x) = {SHA1}", "md5"),
        (f"{MD5[:-1]}g", "not a hash"),
        ("words", "not a hash"),
        (f"{HEX64},101", "quality"),
        (f"{MD5}\0", "NUL"),
        (f"pdq:{MD5}", "pdq"),
        ("\x1b[31m" + MD5, "x1b"),
    ],
)
def test_a_bad_line_is_rejected_and_the_rest_kept(read: Many, line: str, reason: str) -> None:
    before, bad, after = read(f"{MD5}\n{line}\n{SHA1}\n")
    assert isinstance(before, Record)
    assert isinstance(after, Record)
    assert after.number == 3
    assert isinstance(bad, Rejected)
    assert bad.record == 2
    assert reason in bad.reason
    assert bad.reason.isprintable()


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_marked_encodings(read: Many, mark: bytes, encoding: str) -> None:
    text = f"{MD5}  é\N{SNOWMAN}.jpg\r\n" * 1000
    records = read(mark + text.encode(encoding))
    assert len(records) == 1000
    assert all(isinstance(each, Record) for each in records)


def test_names_in_another_encoding_do_no_harm(read_one: One) -> None:
    assert stated(read_one(f"{MD5}  caf".encode() + b"\xe9\n")) == (DigestKind.MD5, MD5)


def test_a_line_without_end_is_refused(read: Many) -> None:
    with pytest.raises(FormatError, match="line 2 is longer"):
        read(f"{MD5}\n{MD5}  " + "x" * 200_000, FileFormat.LIST)
    longest = f"{MD5}  " + "x" * (64 * 1024 - 34)
    assert len(read(f"{longest}\n{longest}", FileFormat.LIST)) == 2
    with pytest.raises(FormatError, match="line 1 is longer"):
        read(f"{longest}x\n", FileFormat.LIST)


# --- PDQ ---


@pytest.mark.parametrize(
    ("line", "quality"),
    [
        (f"{HEX64},100", 100),
        (f"{HEX64}, 0", 0),
        (f"{HEX64};87", 87),
        (f"{HEX64}\t50", 50),
        (f"{HEX64} 50", 50),
        (f"pdq:{HEX64},50", 50),
        (f"{HEX64.upper()},99,dir/name.jpg", 99),
    ],
)
def test_pdq_with_quality(read_one: One, line: str, quality: int) -> None:
    record = read_one(line)
    assert stated(record) == (DigestKind.PDQ, HEX64)
    assert record.pdq_quality == quality
    assert record.entire is True


def test_64_digits_are_pdq_when_the_caller_says_so(read_one: One) -> None:
    record = read_one(HEX64, bare_64_is_pdq=True)
    assert stated(record) == (DigestKind.PDQ, HEX64)
    assert stated(read_one(f"sha256:{HEX64}", bare_64_is_pdq=True))[0] is DigestKind.SHA256
    assert stated(read_one(f"{HEX64}  name", bare_64_is_pdq=True))[0] is DigestKind.SHA256


@pytest.mark.parametrize("head", ["# PDQ hashes, quality left out", f"{HEX64},80"])
def test_64_digits_are_pdq_when_the_file_says_so(read: Many, head: str) -> None:
    *_, last = read(f"{head}\n{HEX64}\n")
    assert isinstance(last, Record)
    assert stated(last) == (DigestKind.PDQ, HEX64)


def test_a_prefix_speaks_for_its_own_line_only(read: Many) -> None:
    pdq, sha256 = read(f"pdq:{HEX64}\n{HEX64}\n")
    assert isinstance(pdq, Record)
    assert isinstance(sha256, Record)
    assert stated(pdq)[0] is DigestKind.PDQ
    assert stated(sha256)[0] is DigestKind.SHA256


# --- hashdeep ---

HASHDEEP = "%%%% HASHDEEP-1.0\n%%%% size,md5,sha256,filename\n## Invoked from: /x\n## \n"


def test_hashdeep(read: Many) -> None:
    first, second = read(HASHDEEP + f"5,{MD5},{HEX64},/a,b/c.jpg\r\n0,{MD5.upper()},{HEX64},\n")
    assert first == Record(
        1, md5=bytes.fromhex(MD5), sha256=bytes.fromhex(HEX64), size=5, entire=True
    )
    assert isinstance(second, Record)
    assert second.size == 0


def test_hashdeep_of_other_algorithms_and_joined_outputs(read: Many) -> None:
    text = f"%%%% HASHDEEP-1.0\n%%%% size,tiger,sha1,filename\n1,x,{SHA1},a\n{HASHDEEP}"
    text += f"9007199254740993,{MD5},{HEX64},b\n"
    first, second = read(text)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert first.sha1 == bytes.fromhex(SHA1)
    assert (second.md5, second.size) == (bytes.fromhex(MD5), 9007199254740993)


def test_hashdeep_bad_lines_are_rejected(read: Many) -> None:
    short, wrong, nul, good = read(
        HASHDEEP + f"5,{MD5}\n5,{SHA1},{HEX64},a\n5,{MD5},{HEX64},a\0\nx,{MD5},{HEX64},a"
    )
    assert isinstance(short, Rejected)
    assert isinstance(wrong, Rejected)
    assert isinstance(nul, Rejected)
    assert isinstance(good, Record)
    assert good.size is None
    assert "size" in good.notes[0]


@pytest.mark.parametrize(
    "content", ["", MD5, "%%%% HASHDEEP-1.0\n", "%%%% HASHDEEP-1.0\n%%%% size,filename\n"]
)
def test_hashdeep_needs_its_header(read: Many, content: str) -> None:
    with pytest.raises(FormatError, match="hashdeep"):
        read(content, FileFormat.HASHDEEP)
