"""Text of others in the log of a node: one event is one line of printable ASCII."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tieline_server.wiring.process import configure_log

HOSTILE = '\x1b[2Jred\x9b31m\r\n{"event": "forged"}\u2028\u202e\x00\x7f'


@pytest.fixture
def log() -> Iterator[None]:
    handlers = list(logging.root.handlers)
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers


def _written(capsys: pytest.CaptureFixture[str], text: str) -> str:
    configure_log()
    try:
        raise ValueError(text)
    except ValueError:
        structlog.get_logger("test").error(
            "delivery.refused", exc_info=True, text=text, **{"k": [text]}
        )
    return capsys.readouterr().err


def test_a_forged_line_stays_inside_its_event(
    log: None, capsys: pytest.CaptureFixture[str]
) -> None:
    line = _written(capsys, HOSTILE).removesuffix("\n")
    assert line.isascii() and line.isprintable()
    event = json.loads(line)
    assert (event["event"], event["text"], event["k"]) == ("delivery.refused", HOSTILE, [HOSTILE])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text())
def test_any_text_is_one_line(log: None, capsys: pytest.CaptureFixture[str], text: str) -> None:
    line = _written(capsys, text).removesuffix("\n")
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["text"] == text
