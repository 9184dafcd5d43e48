"""The list of actions by which an audit search knows a word holds what the code logs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import tieline_server
from tieline_client.audit_search import Search
from tieline_client.errors import InvalidInput
from tieline_server.domain.audit_actions import ACTIONS, KINDS
from tieline_server.services.auditing import Auditing

from tests.services.bench import ANA, PT, Bench

_LOGS = {"AuditEntry", "_entry", "_log", "_log_life", "_note", "alarm", "entry", "note"}
"""What is called with an action, at whatever place among its arguments."""
_WORD = re.compile(r"[a-z_-]+\.[a-z_-]+|refusal|import")


def _logged(source: str) -> set[str]:
    """The actions that a module names where it logs; its own log's events are not among them."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        for given in (*node.args, *(one.value for one in node.keywords if one.arg == "action")):
            if name in _LOGS or name == "note_read":
                found |= {
                    one.value
                    for one in ast.walk(given)
                    if isinstance(one, ast.Constant) and isinstance(one.value, str)
                }
    return {word for word in found if _WORD.fullmatch(word)}


def test_every_action_that_the_code_names_is_listed() -> None:
    folder = Path(tieline_server.__file__).parent
    named = {word for file in folder.rglob("*.py") for word in _logged(file.read_text())}
    assert {"import", "query.asked", "node.started", "deposit.not-reported"} <= named
    assert named - ACTIONS == set()
    assert all(re.fullmatch(r"[a-z_-]+(\.[a-z_-]+)?", word) for word in ACTIONS)


def test_a_search_for_an_action_that_nobody_knows_is_refused(bench: Bench) -> None:
    node = bench[PT].node
    auditing = Auditing(node, dict)

    def search(action: str, start: int = 0) -> int:
        return len(auditing.search(ANA, Search(action=action), start, 0).entries)

    with pytest.raises(InvalidInput, match=r"'query.askd' .* did you mean query.asked"):
        search("query.askd")
    with pytest.raises(InvalidInput, match=r"'qwxyz' .* known: alarm, audit, broadcast, "):
        search("qwxyz")
    assert search("query.askd", start=1) == 0  # a further page was let in by the first
    assert search("export.done") == 0  # known, though never logged here
    assert search("vital-interests") == 0
    gone = node.entry("gone.word")  # as an older version may have logged
    bench[PT].store.write(lambda tx: tx.audit.append(gone))
    assert (search("gone.word"), search("gone")) == (1, 1)
    assert "gone" not in KINDS
