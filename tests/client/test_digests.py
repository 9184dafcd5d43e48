"""Digests as text and as packed lists: what is taken, and what never is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.digests import (
    JUNK,
    DigestKind,
    format_digest,
    is_junk,
    junk_rows,
    pack,
    parse,
    rows,
    unpack,
)
from tieline_client.errors import InvalidDigest

KINDS = st.sampled_from(DigestKind)


@given(st.data())
def test_text_goes_there_and_back(data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    digest = data.draw(st.binary(min_size=kind.width, max_size=kind.width))
    text = format_digest(kind, digest)
    assert parse(text) == (kind, digest)
    assert parse(text.upper()) == (kind, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ab",
        "sha1:",
        "sha512:" + "ab" * 64,
        "md5:" + "g" * 32,
        "ab " * 10 + "ab",
        "0x" + "a" * 38,
        "sha1:" + "ab" * 19,
        "md5:" + "ab " * 10 + "ab",
    ],
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(InvalidDigest):
        parse(text)


def test_bare_hex_is_known_by_its_length() -> None:
    found = [parse("ab" * width)[0] for width in (16, 20, 32)]
    assert found == [DigestKind.MD5, DigestKind.SHA1, DigestKind.SHA256]
    assert parse("ab" * 32, bare_64_is_pdq=True)[0] is DigestKind.PDQ


@given(st.data())
def test_a_packed_list_is_strictly_ascending_and_nothing_else_unpacks(data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    width = st.binary(min_size=kind.width, max_size=kind.width)
    digests = data.draw(st.lists(width, max_size=12))
    packed = pack(kind, digests)
    assert list(rows(kind, packed)) == sorted(set(digests))
    assert unpack(kind, packed).tobytes() == packed
    given_order = b"".join(digests)
    if digests == sorted(set(digests)):
        assert unpack(kind, given_order).tobytes() == given_order
    else:
        with pytest.raises(InvalidDigest):
            unpack(kind, given_order)


def test_order_holds_across_batches_and_widths_are_whole() -> None:
    low, high = b"\x01" * 20, b"\x02" * 20
    assert len(unpack(DigestKind.SHA1, high, after=low)) == 1
    for after in (high, b"\x03" * 20):
        with pytest.raises(InvalidDigest):
            unpack(DigestKind.SHA1, high, after=after)
    with pytest.raises(InvalidDigest):
        unpack(DigestKind.SHA1, high + b"\x00")


@pytest.mark.parametrize("kind", list(DigestKind))
def test_constants_say_nothing(kind: DigestKind) -> None:
    assert is_junk(kind, bytes(kind.width))
    assert is_junk(kind, b"\xff" * kind.width)
    assert not is_junk(kind, b"\x01" + bytes(kind.width - 1))


@given(st.data())
def test_junk_is_found_among_many(data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    junk = sorted(value for each, value in JUNK if each is kind)
    assert len(junk) >= 2
    like = st.sampled_from([*junk, *(value[:-1] + b"\x07" for value in junk)])
    values = data.draw(
        st.lists(like | st.binary(min_size=kind.width, max_size=kind.width), max_size=30)
    )
    table = np.frombuffer(b"".join(values), dtype=np.uint8).reshape(-1, kind.width)
    assert junk_rows(kind, table).tolist() == [is_junk(kind, value) for value in values]
