"""Hostile text is harmless where it is kept and where it goes; ordinary text stays as it is."""

from __future__ import annotations

import csv
import io
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.inert import csv_line, html_text, inert, plain

ORDINARY = (
    *("Polícia Judiciária", "Ævar Ólafsson", "Ψυχή", "Ћирилица", "日本語の名前", "한국어", "עברית"),
    *(
        "العربية",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "ක්\u200dර",
        "\U0001f468\u200d\U0001f469",
        "«x» “y”",
    ),
    *("line\nline\ttab", "a+b=c"),
)
INVISIBLE = (
    *("\u202e", "\u2066", "\u200b", "\u200e", "\u061c", "\ufeff", "\u00ad", "\u2060"),
    *("\U000e0041", "\ufff9", "\u180e"),
)


@pytest.mark.parametrize("text", ORDINARY)
def test_names_in_any_script_stay_as_they_are(text: str) -> None:
    assert plain(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("mark", INVISIBLE)
@pytest.mark.parametrize("at", range(4))
def test_what_nobody_can_see_goes(mark: str, at: int) -> None:
    for word in ("abc", "éèê"):
        assert plain(word[:at] + mark + word[at:]) == word


def test_two_spellings_of_one_name_become_one() -> None:
    assert plain("Jose\u0301") == plain("José") == "José"
    assert plain("pay\u200cpal") == plain("pay\u200dpal") == "paypal"
    assert plain(" a\u2028b ") == "a b"


@given(st.text())
def test_plain_text_is_stable_and_normal(text: str) -> None:
    made = plain(text)
    assert plain(made) == made
    assert made.isascii() or unicodedata.is_normalized("NFC", made)
    assert not any(mark in made for mark in INVISIBLE)


@given(st.text())
def test_inert_text_is_one_printable_line(text: str) -> None:
    made = inert(text)
    assert made.isprintable() and inert(made) == made
    assert made == text or not text.isprintable()


FORMULAS = (
    *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A1", "\t=1", " =1", "\r=1", "\n=1"),
    *("\uff1d1", "\uff0d1+1", "\uff0b1", "\uff20x", "\u200b=1", "--5"),
)


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str) -> None:
    ((cell,),) = csv.reader(io.StringIO(csv_line([text])))
    assert cell[0] not in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
    assert cell.lstrip()[0] not in "=+-@\uff1d\uff0b\uff0d\uff20"


def test_numbers_stay_numbers() -> None:
    assert csv_line([-5, "3.25", "-0.5", 7]) == '"-5","3.25","-0.5","7"\r\n'


@given(st.lists(st.text(), min_size=1))
def test_a_table_has_one_line_and_its_cells_whatever_they_hold(cells: list[str]) -> None:
    line = csv_line(cells)
    assert line.endswith("\r\n") and line.removesuffix("\r\n").isprintable()
    (read,) = csv.reader(io.StringIO(line, newline=""))
    assert [one.removeprefix("'") for one in read] == [
        inert(one).removeprefix("'") for one in cells
    ]
    assert not any(one.lstrip()[:1] in tuple("=+@") for one in read)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text() | st.sampled_from(["<script>x</script>", '"><img onerror=x>', "'&amp;", "<!--"]))
def test_no_text_is_markup(text: str) -> None:
    page = _Tags()
    page.feed(f'<p title="{html_text(text)}">{html_text(text)}</p>')
    page.close()
    assert page.tags == ["p"]
    assert page.attributes == [("title", inert(text))]
    assert page.text == inert(text)
