"""Handling and TLP on every forward: each code with each mark, on every way out, at real services.

The expectation below is in words of its own: another agency's data goes on when it is H0 or H1 and
no stricter than TLP:AMBER; the provider's own goes into a broadcast or a deposit when it is H0 or
H1 and not TLP:RED. A provider's permission lifts each of these.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from tieline.v1 import operator_pb2
from tieline_client.errors import PolicyRefused
from tieline_client.handling import HandlingCode, Tlp
from tieline_server.domain.request import Use
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.permissions import forward_question
from tieline_server.services.referring import Referring
from tieline_server.services.uploading import Uploading

from tests.services.bench import ANA, CASE, ES, FR, HUB, INTERPOL, PT, PURPOSE, Bench, records

MATRIX = list(product(HandlingCode, Tlp))


def stays(code: HandlingCode, tlp: Tlp, *, own: bool) -> bool:
    """Whether data under these restrictions may not go on."""
    return code >= HandlingCode.H2 or tlp >= (Tlp.RED if own else Tlp.AMBER_STRICT)


def loaded(bench: Bench, items: int = 1) -> dict[tuple[HandlingCode, Tlp], str]:
    """One series of PT for every pair, of so many items each."""
    found = {}
    for number, (code, tlp) in enumerate(MATRIX):
        handling = {
            "code": int(code),
            "tlp": int(tlp),
            "source": "B",
            "information": 2,
            "retain_until": "2028-01-01",
            "restriction": "for the eyes of the desk" if code is HandlingCode.H3 else "",
        }
        name = f"{code.name} {tlp.label}"
        (series,) = (
            bench[PT]
            .load(
                records(range(items * number, items * (number + 1))), series=name, handling=handling
            )
            .series
        )
        found[code, tlp] = series
    return found


def test_what_is_passed_on(bench: Bench) -> None:
    series = loaded(bench)
    assert bench[ES] and bench[FR]
    for one in series.values():
        bench[PT].refer(one, agency=ES)
    bench.flow()
    came = {entry.referral.series: entry.id for entry in bench[ES].inbox()}
    assert len(came) == len(MATRIX)  # telling an agency is no forward: all may be told
    for (code, tlp), one in series.items():
        step = operator_pb2.StepReferralRequest(id=came[one], state="passed_on", passed_to=FR)
        if stays(code, tlp, own=False):
            with pytest.raises(PolicyRefused, match="requests ask"):
                Referring(bench[ES].node).step(ANA, step)
        else:
            Referring(bench[ES].node).step(ANA, step)
    bench.flow()
    reached = {entry.referral.series: entry for entry in bench[FR].inbox()}
    assert set(reached) == {
        one for (code, tlp), one in series.items() if not stays(code, tlp, own=False)
    }
    for (code, tlp), one in series.items():
        if one in reached:
            handling = reached[one].series.notice.handling
            got = (handling.code, handling.tlp, handling.source, handling.information)
            assert got == (int(code), int(tlp), "B", 2)


def test_what_is_deposited(bench: Bench) -> None:
    series = loaded(bench)
    assert bench[INTERPOL]
    uploading = Uploading(bench[PT].node)
    for (code, tlp), one in series.items():
        wanted = operator_pb2.UploadSeriesRequest(
            series=[one], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
        )
        if stays(code, tlp, own=True):
            with pytest.raises(PolicyRefused, match="requests ask"):
                uploading.upload(ANA, wanted)
        else:
            uploading.upload(ANA, wanted)
    bench.flow()
    assert {one.series for one in Uploading(bench[INTERPOL].node).find()} == {
        one for (code, tlp), one in series.items() if not stays(code, tlp, own=True)
    }


def test_what_is_broadcast(bench: Bench) -> None:
    series = loaded(bench)
    assert bench[HUB] and bench[ES]
    for one in series.values():
        bench[PT].refer(one, agency=HUB)
    bench.flow()
    for (code, tlp), one in series.items():
        wanted = operator_pb2.BroadcastSeriesRequest(
            series=[one], group="desks", purpose=PURPOSE, case_ref=CASE
        )
        if stays(code, tlp, own=False):
            with pytest.raises(PolicyRefused):
                Broadcasting(bench[HUB].node).broadcast(ANA, wanted)
        else:
            Broadcasting(bench[HUB].node).broadcast(ANA, wanted)
    bench.flow()
    reached = {entry.broadcast.series: entry for entry in bench[ES].inbox()}
    assert set(reached) == {
        one for (code, tlp), one in series.items() if not stays(code, tlp, own=False)
    }
    for entry in reached.values():
        handling = entry.series.notice.handling
        assert (handling.source, handling.information) == ("B", 2)


def test_the_providers_permission_lifts_each_of_them(bench: Bench) -> None:
    series = loaded(bench)
    node = bench[PT].node
    for one in series.values():
        known = node.store.read(lambda tx, name=one: tx.series.get(name))  # type: ignore[misc]
        assert known is not None
        for use, actor, to in (
            (Use.PASS_ON, ES, FR),
            (Use.BROADCAST, HUB, ES),
            (Use.UPLOAD, PT, INTERPOL),
        ):
            question = forward_question(node, use, actor, to, known, PURPOSE)
            assert node.policy.decide(replace(question, permission=True)).allowed, (one, use)
