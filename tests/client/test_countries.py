"""Countries that a person may name."""

from __future__ import annotations

import itertools
import string

import pytest
from tieline_client.countries import COUNTRIES, check_known_country
from tieline_client.errors import InvalidInput


def test_every_code_of_the_list_and_no_other_pair_of_letters_passes() -> None:
    assert len(COUNTRIES) == 250
    for pair in map("".join, itertools.product(string.ascii_uppercase, repeat=2)):
        if pair in COUNTRIES:
            assert check_known_country(pair) == pair
        else:
            with pytest.raises(InvalidInput):
                check_known_country(pair)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("UK", "'UK' is GB in ISO 3166-1"),
        ("EL", "'EL' is GR in ISO 3166-1"),
        ("PO", "no country has the code 'PO'; look it up"),
        ("pt", "not two capital letters"),
        ("PRT", "not two capital letters"),
        ("", "not two capital letters"),
    ],
)
def test_what_is_wrong_is_said(code: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check_known_country(code)
