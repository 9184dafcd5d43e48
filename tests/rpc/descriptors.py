"""Every message and service of tieline.v1, found rather than listed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import tieline.v1
from google.protobuf.descriptor import Descriptor, FileDescriptor, ServiceDescriptor


def files() -> Iterator[FileDescriptor]:
    """The generated modules' descriptors."""
    for module in pkgutil.iter_modules(tieline.v1.__path__):
        if module.name.endswith("_pb2"):
            yield importlib.import_module(f"tieline.v1.{module.name}").DESCRIPTOR


def messages() -> Iterator[Descriptor]:
    """All message types, nested ones included."""
    pending = [message for file in files() for message in file.message_types_by_name.values()]
    while pending:
        message = pending.pop()
        yield message
        pending.extend(message.nested_types)


def services() -> Iterator[ServiceDescriptor]:
    for file in files():
        yield from file.services_by_name.values()


def reachable(root: Descriptor) -> Iterator[Descriptor]:
    """A message type and all that it can hold."""
    seen: dict[str, Descriptor] = {}
    pending = [root]
    while pending:
        message = pending.pop()
        if message.full_name not in seen:
            seen[message.full_name] = message
            pending.extend(field.message_type for field in message.fields if field.message_type)
    yield from seen.values()
