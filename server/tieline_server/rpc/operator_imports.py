"""The imports of a node on the operator port. Translates and calls."""

from __future__ import annotations

import grpc
from tieline.v1 import operator_imports_pb2 as pb
from tieline.v1 import operator_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.services.consulting import Consultations
from tieline_server.services.context import Node, Person
from tieline_server.services.import_desk import ImportDesk


class ImportMethods(operator_pb2_grpc.OperatorServiceServicer):
    """The methods of OperatorService about imports that are there."""

    _imports: ImportDesk
    _reads: Consultations

    def _take_imports(self, node: Node) -> None:
        """Make what the methods call."""
        self._imports = ImportDesk(node)

    def ListImports(
        self, request: pb.ListImportsRequest, context: grpc.ServicerContext
    ) -> pb.ListImportsResponse:
        """What was imported."""
        found = self._imports.latest(request.most)
        self._reads.note(_person(context), "imports.listed", (one.id for one in found.imports))
        return found

    def RemoveImport(
        self, request: pb.RemoveImportRequest, context: grpc.ServicerContext
    ) -> pb.RemoveImportResponse:
        """An import taken back."""
        return self._imports.remove(_person(context), request)


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)
