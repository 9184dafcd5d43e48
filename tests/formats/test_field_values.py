"""The values of single fields: PhotoDNA, times, flags, counts, messages."""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.digests import DigestKind
from tieline_client.formats.fields import BadRecord, read_count, read_digest, shown
from tieline_client.formats.flags import parse_flag
from tieline_client.formats.photodna import WIDTH, parse_photodna
from tieline_client.formats.times import parse_time

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(),
    st.binary(),
    st.decimals(),
    st.lists(st.text()),
)


@given(st.binary(min_size=WIDTH, max_size=WIDTH))
def test_photodna_reads_back_from_each_encoding(digest: bytes) -> None:
    for text in (
        base64.b64encode(digest).decode(),
        digest.hex(),
        digest.hex().upper(),
        ",".join(map(str, digest)),
        f"  {digest.hex()}\n",
    ):
        assert parse_photodna(text) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 287,
        "0" * 289,
        "g" * 288,
        "A" * 191 + "=",
        "A" * 190 + "==",
        "A" * 193,
        "-" * 192,
        ",".join(["1"] * 143),
        ",".join(["1"] * 145),
        ",".join(["256"] + ["1"] * 143),
        ",".join(["-1"] + ["1"] * 143),
        ",".join(["\N{ARABIC-INDIC DIGIT ONE}"] + ["1"] * 143),
        " " * 144,
        "1" * 1_000_000,
        5,
        None,
        ["1"] * 144,
    ],
)
def test_photodna_of_any_other_form_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_photodna(text)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_times_read_back(time: datetime, minutes: int) -> None:
    aware = time.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    parsed = parse_time(aware.isoformat())
    assert parsed == aware
    assert parsed.tzinfo is UTC
    assert parse_time(time.isoformat()) == time.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2020-01-02", datetime(2020, 1, 2, tzinfo=UTC)),
        (" 2020-01-02T03:04:05Z ", datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2020-01-02 03:04:05", datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2020-01-02T03:04:05+1:00Z", datetime(2020, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("2020-01-02T03:04:05-11:30Z", datetime(2020, 1, 2, 14, 34, 5, tzinfo=UTC)),
        ("2020-01-02T03:04:05+0100", datetime(2020, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("/Date(0)/", datetime(1970, 1, 1, tzinfo=UTC)),
        ("/Date(-1)/", datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
    ],
)
def test_times(text: str, time: datetime) -> None:
    assert parse_time(text) == time


@given(ANYTHING)
def test_no_value_breaks_a_parser(value: object) -> None:
    for parse in (parse_time, parse_photodna, parse_flag):
        with suppress(ValueError):
            parse(value)
    for kind in DigestKind:
        try:
            digest = read_digest(kind, value)
        except BadRecord as error:
            assert error.message.isprintable()
        else:
            assert digest is None or len(digest) == kind.width
    notes: list[str] = []
    count = read_count(value, "x", notes)
    assert count is None or 0 <= count < 2**63


@pytest.mark.parametrize("text", ["/Date(999999999999999)/", "0001-01-01T00:00:00+14:00", "20"])
def test_times_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


@given(st.sampled_from(list(DigestKind)), st.data())
def test_digests_read_back(kind: DigestKind, data: st.DataObject) -> None:
    digest = data.draw(st.binary(min_size=kind.width, max_size=kind.width))
    assert read_digest(kind, digest.hex()) == digest
    assert read_digest(kind, f" {digest.hex().upper()} ") == digest
    with pytest.raises(BadRecord):
        read_digest(kind, digest.hex()[:-2])
    with pytest.raises(BadRecord):
        read_digest(kind, digest.hex()[:-2] + "  ")
    with pytest.raises(BadRecord):
        read_digest(kind, digest.hex(" ")[: 2 * kind.width])


@given(st.text())
def test_what_is_shown_is_one_short_printable_line(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown("\0" * 10_000)) < 500
