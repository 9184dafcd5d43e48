"""The people of the own agency, as methods of OperatorClient."""

from __future__ import annotations

from collections.abc import Sequence

from tieline.v1 import operator_access_pb2
from tieline.v1 import operator_pb2 as pb

from tieline_client.operator_connection import OperatorConnection, make


class PeopleCalls(OperatorConnection):
    """The methods of OperatorService about people and their profiles."""

    def add_operator(
        self,
        name: str,
        roles: Sequence[str],
        public_key: bytes,
        certificate: bytes = b"",
    ) -> pb.AddOperatorResponse:
        """Add a person, or give one a new certificate: for ``public_key`` (DER), or the
        ``certificate`` (DER) that the agency's operator CA issued for it elsewhere."""
        request = make(
            pb.AddOperatorRequest,
            name=name,
            roles=roles,
            public_key=public_key,
            **({"certificate": certificate} if certificate else {}),
        )
        return self.call(self.stub.AddOperator, request)

    def get_access(self) -> operator_access_pb2.GetAccessResponse:
        """Return what a profile needs to reach the node; raise UnknownMethod of an older node."""
        return self.call(self.stub.GetAccess, operator_access_pb2.GetAccessRequest())

    def renew_certificate(self) -> bytes:
        """Return this person's certificate (DER) of the next operator CA, for the same key.

        b"" where there is nothing to renew. Raises UnknownMethod of an older node.
        """
        request = operator_access_pb2.RenewCertificateRequest()
        return self.call(self.profiles.RenewCertificate, request).certificate

    def list_operators(self) -> Sequence[pb.OperatorView]:
        """The people, by name."""
        return self.call(self.stub.ListOperators, pb.ListOperatorsRequest()).operators

    def revoke_operator(self, name: str) -> None:
        """End a person's access."""
        self.call(self.stub.RevokeOperator, make(pb.RevokeOperatorRequest, name=name))
