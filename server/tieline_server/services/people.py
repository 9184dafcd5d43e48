"""The agency's own people: who has which roles, and which certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from tieline.v1 import operator_pb2
from tieline_client.errors import InvalidInput, NotFound, WrongState
from tieline_client.identifiers import check_operator
from tieline_client.payloads import timestamp

from tieline_server.domain.ports import Operator, Tx
from tieline_server.services.context import Node, Person

ROLES = ("analyst", "officer", "auditor", "admin")


@dataclass(frozen=True, slots=True)
class IssuedLeaf:
    """A person's certificate, DER, its serial number and its end."""

    certificate: bytes
    serial: int
    expires: datetime
    issuer: str = ""
    """Fingerprint of the operator CA."""


Issue = Callable[[str, bytes], IssuedLeaf]
"""(name, SubjectPublicKeyInfo) to a leaf of the operator CA; raises InvalidInput for a bad key."""

Check = Callable[[str, bytes], IssuedLeaf]
"""(name, DER) to a certificate that the agency's operator CA issued elsewhere, once it passed the
checks of every call; raises a TielineError that names the check which failed."""


def check_roles(roles: tuple[str, ...]) -> tuple[str, ...]:
    """Return distinct known roles in a fixed order; raise InvalidInput otherwise."""
    unknown = set(roles) - set(ROLES)
    if unknown or not roles:
        raise InvalidInput(f"a person has one or more of the roles {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in roles)


def left_with(tx: Tx, issuer: str) -> list[str]:
    """Return who may come in now and has no certificate of this operator CA, by name."""
    people = tx.operators.find()
    return [one.name for one in people if one.revoked is None and one.issuer != issuer]


class People:
    """Adds, lists and revokes."""

    def __init__(
        self, node: Node, issue: Issue, check: Check, upcoming: Callable[[], str] = lambda: ""
    ) -> None:
        """``upcoming`` is the fingerprint of the next operator CA, or "" where none can issue."""
        self._node, self._issue, self._check = node, issue, check
        self._upcoming = upcoming

    def add(
        self,
        admin: Person,
        name: str,
        roles: tuple[str, ...],
        key: bytes,
        certificate: bytes = b"",
    ) -> IssuedLeaf:
        """Give a person a certificate and roles; a known person's older certificates end.

        With a ``certificate`` that was issued elsewhere, that one. Raises InvalidInput, and what
        issuing or checking raises.
        """
        check_operator(name)
        roles = check_roles(roles)
        leaf = self._check(name, certificate) if certificate else self._issue(name, key)
        now = self._node.clock()

        def work(tx: Tx) -> None:
            known = tx.operators.get(name)
            if known is not None and "admin" in known.roles and "admin" not in roles:
                self._keep_an_admin(tx, name)
            tx.operators.put(
                Operator(
                    name,
                    roles,
                    (leaf.serial,),
                    known.created if known else now,
                    expires=leaf.expires,
                    issuer=leaf.issuer,
                )
            )
            tx.audit.append(
                self._node.entry(
                    "operator.added",
                    person=admin.name,
                    subjects=(name,),
                    roles=list(roles),
                    serial=f"{leaf.serial:x}",
                    issued="elsewhere" if certificate else "here",
                )
            )

        self._node.store.write(work)
        return leaf

    def renew(self, person: Person, serial: int, key: bytes) -> IssuedLeaf | None:
        """Give whoever calls a certificate of the next operator CA, for the key they have.

        ``serial`` and ``key`` (SubjectPublicKeyInfo) are those of the certificate they call with,
        which goes on until the present CA ends. None where no CA is being replaced, or they call
        with a certificate of the next one. Raises WrongState for who was replaced meanwhile, and
        what issuing raises.
        """
        issuer = self._upcoming()
        known = self._node.store.read(lambda tx: tx.operators.get(person.name))
        if not issuer or known is None:
            return None
        if known.issuer == issuer and known.serials[-1:] == (serial,):
            return None
        leaf = self._issue(person.name, key)

        def work(tx: Tx) -> None:
            known = tx.operators.get(person.name)
            if known is None or serial not in known.serials:
                raise WrongState(f"the certificate of {person.name} was replaced meanwhile")
            # Of those that were issued and never arrived none is kept.
            renewed = replace(
                known, serials=(serial, leaf.serial), expires=leaf.expires, issuer=leaf.issuer
            )
            tx.operators.put(renewed)
            tx.audit.append(
                self._node.entry(
                    "operator.renewed",
                    person=person.name,
                    subjects=(person.name,),
                    serial=f"{leaf.serial:x}",
                    before=f"{serial:x}",
                )
            )

        self._node.store.write(work)
        return leaf

    def revoke(self, admin: Person, name: str) -> None:
        """End a person's access, from the next call on. Raises NotFound or WrongState."""

        def work(tx: Tx) -> None:
            known = tx.operators.get(name)
            if known is None or known.revoked is not None:
                raise NotFound(f"no operator {name[:64]!r} here; see `tieline operator list`")
            if "admin" in known.roles:
                self._keep_an_admin(tx, name)
            tx.operators.put(
                Operator(name, known.roles, (), known.created, revoked=self._node.clock())
            )
            tx.audit.append(
                self._node.entry("operator.revoked", person=admin.name, subjects=(name,))
            )

        self._node.store.write(work)

    def find(self) -> list[operator_pb2.OperatorView]:
        """Everybody, by name."""
        views = []
        for one in self._node.store.read(lambda tx: list(tx.operators.find())):
            view = operator_pb2.OperatorView(
                name=one.name, roles=list(one.roles), create_time=timestamp(one.created)
            )
            if one.revoked is not None:
                view.revoke_time.CopyFrom(timestamp(one.revoked))
            if one.expires is not None:
                view.expire_time.CopyFrom(timestamp(one.expires))
            views.append(view)
        return views

    @staticmethod
    def _keep_an_admin(tx: Tx, leaving: str) -> None:
        others = (o for o in tx.operators.find() if o.name != leaving and o.revoked is None)
        if not any("admin" in one.roles for one in others):
            raise WrongState(f"{leaving} is the only admin; add another admin first")
