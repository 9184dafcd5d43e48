"""The imports of the own node, as methods of OperatorClient."""

from __future__ import annotations

from tieline.v1 import operator_imports_pb2 as pb

from tieline_client import limits
from tieline_client.operator_connection import OperatorConnection, make


class ImportCalls(OperatorConnection):
    """The methods of OperatorService about imports that are there."""

    def list_imports(self, most: int = 0) -> pb.ListImportsResponse:
        """What was imported, newest first; ``most`` 0: as many as the node shows."""
        request = make(pb.ListImportsRequest, most=most)
        return self.call(self.stub.ListImports, request, limits.ACTION_SECONDS)

    def remove_import(self, import_id: str, reason: str) -> pb.RemoveImportResponse:
        """Take an import back: what it holds is erased, what it excludes is excluded no more."""
        request = make(pb.RemoveImportRequest, id=import_id, reason=reason)
        return self.call(self.stub.RemoveImport, request, limits.ACTION_SECONDS)
