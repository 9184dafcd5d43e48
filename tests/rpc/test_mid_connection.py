"""threats.md 12: revoked while a connection is open, or on a resumed session, caller or server."""

from __future__ import annotations

from tests.rpc.mid_connection import cases
from tests.rpc.mid_connection_table import PAGE, render


def test_each_connection_gets_what_its_line_says_and_the_page_says_so() -> None:
    listed = cases()
    assert len(listed) >= 40
    assert len({(case.side, case.name) for case in listed}) == len(listed)
    measured = [(case, case.run()) for case in listed]
    told = {f"{case.side}, {case.name}": got for case, got in measured}
    assert told == {f"{case.side}, {case.name}": case.expected for case in listed}
    assert PAGE.read_text(encoding="utf-8") == render(measured)
