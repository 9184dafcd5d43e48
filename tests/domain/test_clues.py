"""What a description may hold, when two tips say the same, what a person may judge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tieline_client import limits
from tieline_client.errors import InvalidInput, WrongState
from tieline_server.domain.clue import (
    Support,
    Tip,
    TipState,
    check_judgement,
    check_publishable,
    check_words,
    keyed,
    most_of_day,
    net,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TIP = Tip("t", "c", "Sold in Porto, 2019", "", "", NOON, "pt-pj")
KEY = bytes(32)


@pytest.mark.parametrize(
    "text",
    [
        "see https://example.org/a",
        "\uff48ttp://example.org",
        "www.example.org",
        "shop.example.org/bag",
        "data:image/png;base64,AAAA",
        "mailto:x@example.org",
        "look at bag.JPG",
        "clip.mp4 shows it",
        "<img src=x>",
        "![bag](x)",
        "abcdefghij.onion",
        "d41d8cd98f00b204e9800998ecf8427e",
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
        "a\x1b[31mbag",
        "",
        " \u200b ",
        "x " * 1001,
    ],
)
def test_what_is_no_description_in_words_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_words(text, "a clue")


def test_words_are_kept_plain() -> None:
    assert check_words("  blue\u200b  bag,\n5 cm wide. ", "a clue") == "blue bag, 5 cm wide."
    assert check_words("Müller-Straße 5; tel. 112? (St. Mary)", "a clue")
    assert check_words("青い鞄", "a clue") == "青い鞄"


def test_published_words_do_not_name_the_series() -> None:
    for text in ("bag of case azul", "seen in CASE\u3000AZUL", "Case Azul!"):
        with pytest.raises(InvalidInput, match="name the series"):
            check_publishable(text, ["", "Case Azul"])
    check_publishable("case of azulejos", ["Case Azul", "", "azul"])


def test_two_tips_that_say_the_same_are_one() -> None:
    same = replace(TIP, id="u", text=" sold in  PORTO, \uff12\uff10\uff11\uff19 ")
    assert same.digest == TIP.digest
    for other in (
        replace(TIP, clue="d"),
        replace(TIP, text="Sold in Porto"),
        replace(TIP, contact="x"),
    ):
        assert other.digest != TIP.digest


def test_contacts_are_hashed_under_a_key() -> None:
    assert keyed(KEY, " Ana@Example.org") == keyed(KEY, "ana@example.org") != ""
    assert keyed(KEY, "ana@example.org") != keyed(b"k" * 32, "ana@example.org")
    assert keyed(KEY, "  ") == ""


@pytest.mark.parametrize(
    ("state", "supports", "eliminates", "reason"),
    [
        (TipState.NEW, "", "", ""),
        (TipState.VERIFIED, "", "", ""),
        (TipState.VERIFIED, "PT", "ES", ""),
        (TipState.DISMISSED, "PT", "", "r"),
        (TipState.DISMISSED, "", "", ""),
    ],
)
def test_a_judgement_says_one_thing(
    state: TipState, supports: str, eliminates: str, reason: str
) -> None:
    with pytest.raises(InvalidInput):
        check_judgement(TIP, state, supports, eliminates, reason)


def test_a_judgement_may_change_but_is_not_said_twice() -> None:
    check_judgement(TIP, TipState.VERIFIED, "PT", "", "")
    verified = replace(TIP, state=TipState.VERIFIED, supports="PT")
    check_judgement(verified, TipState.VERIFIED, "", "PT", "")
    check_judgement(verified, TipState.DISMISSED, "", "", "another bag")
    with pytest.raises(WrongState):
        check_judgement(verified, TipState.VERIFIED, "PT", "", "")


def test_who_is_named_may_bring_less_than_all_who_are_not() -> None:
    assert most_of_day("x") == limits.TIPS_PER_SOURCE_DAY < most_of_day("")


def test_support_is_for_less_against() -> None:
    assert net({"PT": Support(3, 1), "ES": Support(0, 2)}) == {"PT": 2, "ES": -2}
