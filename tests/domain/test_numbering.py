"""A repository's series numbers: their form, and which of a person's words are of that form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_server.domain.numbering import Numbering


@given(
    st.builds(
        Numbering,
        prefix=st.sampled_from(["", "ICSE", "A-1", "X_"]),
        yearly=st.booleans(),
        digits=st.integers(1, 12),
    ),
    st.integers(1, 10**12 - 1),
)
def test_what_was_given_out_is_known_again(numbering: Numbering, number: int) -> None:
    assert numbering.own("interpol", numbering.text("interpol", 2026, number)) == number


def test_the_default_form() -> None:
    assert Numbering().text("interpol", 2026, 42) == "INTERPOL-2026-000042"
    assert Numbering("ICSE", yearly=False, digits=3).text("interpol", 2026, 7) == "ICSE-007"


@pytest.mark.parametrize(
    "reference",
    [
        *("", "R-1", "INTERPOL", "INTERPOL-", "INTERPOL-x-1", "INTERPOL-2026-1x"),
        *("INTERPOL-2026-\u0661", "INTERPOL-26-1", "interpol-2026-1"),
        "INTERPOL-2026-" + "9" * 13,
    ],
)
def test_other_references_are_none_of_it(reference: str) -> None:
    assert Numbering().own("interpol", reference) is None
