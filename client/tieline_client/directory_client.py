"""The directory over the wire: raw files of a peer's copy, and an agency's own statement to a hub.

No Hello comes before: past its directory's expiry a node says none, and what is fetched proves
itself by the directory's own signatures, whoever served it. TLS still proves the agency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import grpc
from tieline.v1 import directory_pb2

from tieline_client import constraints, limits
from tieline_client.errors import DirectoryError, MalformedMessage

DIRECTORY = "directory"
"""The capability of a peer that serves its copy of the directory."""
VERSION_KEY = "tieline-directory"
"""The metadata key in which every call carries the caller's directory version."""
_SERVICE = "/tieline.v1.DirectoryService"


class DirectoryCalls:
    """DirectoryService of one peer, over the channel of its PeerClient."""

    def __init__(
        self,
        agency: str,
        channel: grpc.Channel,
        translated: Callable[[], AbstractContextManager[None]],
        stated: Callable[[], tuple[tuple[str, str], ...]],
    ) -> None:
        """``translated`` turns gRPC's errors into ours; ``stated`` is the metadata of a call."""
        self._agency, self._translated, self._stated = agency, translated, stated
        self._fetch = channel.unary_stream(
            f"{_SERVICE}/FetchFiles", directory_pb2.FetchFilesRequest.SerializeToString, None
        )
        self._submit = channel.unary_unary(
            f"{_SERVICE}/SubmitOwn", directory_pb2.SubmitOwnRequest.SerializeToString, None
        )

    def fetch(
        self, names: Sequence[str], timeout: float = limits.DIRECTORY_CALL_SECONDS
    ) -> dict[str, bytes | None]:
        """Return files by name, None for those that the peer does not have.

        Raises Unreachable, what the peer said, or DirectoryError for an answer out of order or
        without end.
        """
        files: dict[str, bytes | None] = {}
        for part in _parts(names):
            files.update(self._fetch_part(part, timeout))
        return files

    def _fetch_part(self, names: Sequence[str], timeout: float) -> dict[str, bytes | None]:
        files: dict[str, bytes | None] = {}
        expected, data, total = 0, bytearray(), 0
        with self._translated():
            call = self._fetch(
                directory_pb2.FetchFilesRequest(names=names),
                timeout=timeout,
                metadata=self._stated(),
            )
            try:
                for message in call:
                    answer = constraints.open_nested(message, directory_pb2.FetchFilesResponse)
                    total += len(answer.data)
                    if answer.index != expected or expected >= len(names):
                        raise self._disorder("answers out of order")
                    if answer.absent and (data or answer.data or answer.more):
                        raise self._disorder("gives data of a file that it does not have")
                    data += answer.data
                    if len(data) > limits.DIRECTORY_FILE_BYTES:
                        raise self._disorder(f"gives more than {limits.DIRECTORY_FILE_BYTES} bytes")
                    if total > limits.DIRECTORY_BUNDLE_BYTES:
                        raise self._disorder("gives files without end")
                    if not answer.more:
                        files[names[expected]] = None if answer.absent else bytes(data)
                        expected, data = expected + 1, bytearray()
            finally:
                call.cancel()  # type: ignore[no-untyped-call]  # the stub lacks the annotation
        if expected != len(names):
            raise self._disorder("left files out")
        return files

    def submit(self, metadata: bytes, statement: bytes) -> int:
        """Hand in the own agency's statement; return the directory version that holds it."""
        request = directory_pb2.SubmitOwnRequest(metadata=metadata, statement=statement)
        with self._translated():
            data = self._submit(request, timeout=limits.UNARY_SECONDS, metadata=self._stated())
        answer = constraints.open_nested(data, directory_pb2.SubmitOwnResponse)
        if answer.directory_version < 1:
            raise MalformedMessage(f"{self._agency} answered without a directory version")
        return answer.directory_version

    def _disorder(self, what: str) -> DirectoryError:
        return DirectoryError(f"{self._agency} {what} when asked for the directory")


def _parts(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the names as calls may carry them."""
    part: list[str] = []
    for name in names:
        chars = sum(map(len, part)) + len(name)
        if part and (len(part) >= limits.DIRECTORY_NAMES or chars > limits.DIRECTORY_NAMES_CHARS):
            yield part
            part = []
        part.append(name)
    if part:
        yield part
