"""The table of kinds says of each body what the comments of payload.proto say."""

from __future__ import annotations

import re
from pathlib import Path

from tieline.v1 import payload_pb2
from tieline_client import WIRE_MINOR
from tieline_client.payload_kinds import SINCE, unread

PROTO = Path(__file__).parents[2] / "proto" / "tieline" / "v1" / "payload.proto"


def test_the_table_is_what_the_comments_say() -> None:
    body = PROTO.read_text().partition("oneof body {")[2].partition("\n  }")[0]
    stated = {}
    for comment, name in re.findall(r"((?:    //.*\n)+)    \w+ (\w+) = \d+;", body):
        since = re.search(r"Since v1\.(\d+)", comment)
        stated[name] = int(since[1]) if since else 0
    fields = payload_pb2.Payload.DESCRIPTOR.oneofs_by_name["body"].fields
    assert stated.keys() == {field.name for field in fields}
    assert dict(SINCE) == stated
    assert max(SINCE.values()) <= WIRE_MINOR


def test_what_a_version_reads() -> None:
    assert unread(f"v1.{WIRE_MINOR}") == frozenset()
    assert unread("v1.999") == frozenset()
    assert {"retraction", "note", "watch_notice"} <= unread("v1.0")
    assert "retraction" not in unread("v1.1") and "note" in unread("v1.2")
    for unknown in ("", "v2.0", "v1", "v1.x", "nonsense"):
        assert unread(unknown) == frozenset(), "it is asked rather than left without mail"
