"""DirectoryService: raw files of the own copy, and agencies' statements of themselves at a hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import grpc
from tieline.v1 import directory_pb2, directory_pb2_grpc
from tieline_client import limits

from tieline_server.rpc.call import caller_of

Files = Callable[[], Mapping[str, bytes]]
"""Returns the files of the own copy by name, the same object until the copy changes."""
Accept = Callable[[str, bytes, bytes], int]
"""Takes (agency, metadata, statement); returns the directory version that holds them."""


class DirectoryServicer(directory_pb2_grpc.DirectoryServiceServicer):
    """Translates and calls. A name is looked up, never opened, so it leads nowhere else.

    The version before stays for callers that are in the middle of it.
    """

    def __init__(self, files: Files, accept: Accept) -> None:
        self._files, self._accept = files, accept
        self._current: Mapping[str, bytes] = {}
        self._before: Mapping[str, bytes] = {}

    def FetchFiles(
        self, request: directory_pb2.FetchFilesRequest, context: grpc.ServicerContext
    ) -> Iterator[directory_pb2.FetchFilesResponse]:
        """Give files of the own copy."""
        files = self._files()
        if files is not self._current:
            self._before, self._current = self._current, files
        before = self._before
        for index, name in enumerate(request.names):
            data = files.get(name, before.get(name))
            if data is None:
                yield directory_pb2.FetchFilesResponse(index=index, absent=True)
                continue
            size = limits.DIRECTORY_PART_BYTES
            for start in range(0, max(len(data), 1), size):
                end = start + size
                yield directory_pb2.FetchFilesResponse(
                    index=index, data=data[start:end], more=end < len(data)
                )

    def SubmitOwn(
        self, request: directory_pb2.SubmitOwnRequest, context: grpc.ServicerContext
    ) -> directory_pb2.SubmitOwnResponse:
        """Take the caller's statement of itself; it must be the caller's own."""
        version = self._accept(caller_of(context).agency, request.metadata, request.statement)
        return directory_pb2.SubmitOwnResponse(directory_version=version)
