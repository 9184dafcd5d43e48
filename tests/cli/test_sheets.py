"""A document as a person reads it."""

from __future__ import annotations

from tieline_client.cli.sheets import sheet


def test_every_value_stands_in_words_and_none_is_left_out() -> None:
    document = {
        "agency": "pt-pj",
        "countries": ["PT", "ES"],
        "directory_version": 7,
        "directory": {
            "source": None,
            "online": True,
            "parts": [{"role": "root", "version": 1}, {"role": "targets", "version": 2}],
        },
        "queued": {},
        "attached_to": [],
        "backup": None,
        "outbound": False,
    }
    assert list(sheet(document)) == [
        "agency               pt-pj",
        "countries            PT",
        "                     ES",
        "directory version    7",
        "directory            source none, online yes, parts role root, version 1; role targets,"
        " version 2",
        "queued               none",
        "attached to          none",
        "backup               none",
        "outbound             no",
    ]
