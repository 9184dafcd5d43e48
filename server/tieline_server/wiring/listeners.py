"""The two ports of a node: one for its peers, one for its own people."""

from __future__ import annotations

from functools import partial

from tieline.v1 import (
    audit_pb2_grpc,
    auditor_pb2_grpc,
    delivery_pb2_grpc,
    directory_pb2_grpc,
    exchange_pb2_grpc,
    operator_access_pb2_grpc,
    operator_pb2_grpc,
    relay_pb2_grpc,
)
from tieline.v1.operator_access_pb2 import GetAccessResponse
from tieline_client import limits
from tieline_client.directory import Role
from tieline_client.identifiers import dns_name
from tieline_client.tls import server_credentials

from tieline_server.rpc.audit import AuditServicer
from tieline_server.rpc.auditor import AuditorServicer
from tieline_server.rpc.delivery import DeliveryServicer
from tieline_server.rpc.directory import DirectoryServicer
from tieline_server.rpc.exchange import ExchangeServicer
from tieline_server.rpc.identity import OperatorIdentifier, PeerIdentifier
from tieline_server.rpc.interceptors import Guard
from tieline_server.rpc.methods import Listener
from tieline_server.rpc.operator import NodeFacts, OperatorServicer
from tieline_server.rpc.profile import ProfileServicer
from tieline_server.rpc.rates import Rates
from tieline_server.rpc.relay import RelayServicer
from tieline_server.rpc.server import Endpoint, build_server, standing_threads
from tieline_server.services.answering import Answerer
from tieline_server.services.attachments import Receiver
from tieline_server.services.auditing import Auditing
from tieline_server.services.people import People
from tieline_server.services.receiving import Receiving
from tieline_server.services.standing_answers import StandingAnswers
from tieline_server.services.witnessing import Witnessing
from tieline_server.trust.node_identity import ListenerMaterial, MemberCas
from tieline_server.trust.own_statement import OwnStatements
from tieline_server.wiring.certificates import check_operator
from tieline_server.wiring.clock import utc_now
from tieline_server.wiring.directory import accept_statement
from tieline_server.wiring.doctor import Doctor
from tieline_server.wiring.parts import Parts
from tieline_server.wiring.status import NodeStatus


def federation_port(parts: Parts) -> Endpoint:
    """Build what other nodes reach: the exchange, delivery, and the relay."""
    node, config = parts.node, parts.config
    exchange = ExchangeServicer(
        node, Answerer(node), lambda: parts.identity.leaf_der, parts.greeted_by
    )
    delivery = DeliveryServicer(
        Receiving(node, parts.refusals.note), Receiver(node), StandingAnswers(node)
    )
    audit = AuditServicer(Witnessing(node))
    relay = RelayServicer(parts.relaying.board, lambda: config.role is Role.HUB)
    files = DirectoryServicer(
        lambda: parts.directory.copy().files, partial(accept_statement, parts)
    )
    standing = standing_threads()
    guard = Guard(
        Listener.FEDERATION,
        PeerIdentifier(parts.directory.current, utc_now),
        utc_now,
        parts.refusals.note,
        standing_threads=standing,
        rates=Rates(config.peer_calls_per_second),
        heard=parts.delivery.heard_from,
        catch_up=parts.refresher.catch_up,
    )
    parts.reviews.append(guard.review)
    return build_server(
        parts.relaying.listener if config.outbound_only else config.listen or "",
        server_credentials(ListenerMaterial(parts.identity, MemberCas(parts.directory))),
        [guard],
        [
            partial(exchange_pb2_grpc.add_ExchangeServiceServicer_to_server, exchange),
            partial(delivery_pb2_grpc.add_DeliveryServiceServicer_to_server, delivery),
            partial(audit_pb2_grpc.add_AuditServiceServicer_to_server, audit),
            partial(relay_pb2_grpc.add_RelayServiceServicer_to_server, relay),
            partial(directory_pb2_grpc.add_DirectoryServiceServicer_to_server, files),
        ],
        age_seconds=(
            limits.RELAYED_AGE_SECONDS if config.outbound_only else limits.CONNECTION_AGE_SECONDS
        ),
        standing=standing,
    )


def access(parts: Parts) -> GetAccessResponse:
    """Say what profiles need; the next node CA too, as soon as this agency has stated it."""
    own = OwnStatements(parts.home.path, parts.config.agency, parts.directory)
    present = parts.identity.node_ca.der
    others = [ca for ca in own.stated().node_cas if ca != present]
    return GetAccessResponse(
        node_cas=[present, *others],
        address=parts.config.operator_listen,
        target_name=dns_name(parts.config.agency, parts.node.federation),
    )


def operator_port(parts: Parts) -> Endpoint:
    """Build what the agency's own people and tools reach."""
    node, config, identity, store = parts.node, parts.config, parts.identity, parts.store
    operator_cas = identity.operator_cas
    issue = lambda name, key: identity.issue_operator(name, key, utc_now())  # noqa: E731
    facts = NodeFacts(
        listen=config.listen or "",
        access=partial(access, parts),
        status=NodeStatus(parts).now,
        examine=Doctor(parts).examine,
        run_watches=parts.watches.run,
    )
    people = OperatorIdentifier(
        config.agency,
        node.federation,
        operator_cas.trusted,
        lambda name: store.recall(("operator", name), lambda tx: tx.operators.get(name)),
        clock=utc_now,
        is_revoked=lambda agency, serial: parts.directory.current().is_serial_revoked(
            agency, serial
        ),
    )
    own_people = People(node, issue, partial(check_operator, parts), operator_cas.replacing)
    operator, profiles = OperatorServicer(node, own_people, facts), ProfileServicer(own_people)
    auditor = AuditorServicer(Auditing(node, lambda: parts.directory.copy().files), parts.retention)
    return build_server(
        config.operator_listen,
        server_credentials(ListenerMaterial(identity, operator_cas.trusted)),
        [Guard(Listener.OPERATOR, people, utc_now, parts.refusals.note)],
        [
            partial(operator_pb2_grpc.add_OperatorServiceServicer_to_server, operator),
            partial(auditor_pb2_grpc.add_AuditorServiceServicer_to_server, auditor),
            partial(operator_access_pb2_grpc.add_ProfileServiceServicer_to_server, profiles),
        ],
        grace_seconds=limits.IMPORT_SECONDS,
    )
