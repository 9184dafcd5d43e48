"""The checks of one message type, written out as code: what a plan says, without walking it.

Every message of every call is held against its caps, and most of what a walk does is find out anew
what there is to look at. So the source of one function is made of each plan, as dataclasses does
for its methods, from names of fields and numbers alone. What is not plainly in order goes to the
functions of constraint_faults.py, which decide and say why; the code here only passes what they
would pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor

from tieline_client import limits
from tieline_client.constraint_faults import (
    Violation,
    check_bytes,
    check_digests,
    check_text,
    check_time,
    too_deep,
    too_many,
)
from tieline_client.constraint_plans import BytesRule, ManyRule, Plan, plan_of

Check = Callable[[Any, int, set[str] | None], int]
"""Takes a message, its depth, and where texts are gathered, if anywhere; returns the bytes of its
packed digests; raises Violation."""


@cache
def check_of(descriptor: Descriptor) -> Check:
    """Return the checks of a message type. Raises TypeError for a field that cannot be bounded."""
    return _check_of_plan(plan_of(descriptor))


_written: dict[int, Check] = {}
"""By the identity of a plan; plans are made once and live on."""


def _check_of_plan(plan: Plan) -> Check:
    made = _written.get(id(plan))
    if made is None:
        made = _written[id(plan)] = _Writer(plan).function()
    return made


class _Writer:
    """Writes one function. ``_names`` are the objects that its source names."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lines: list[str] = []
        self._names: dict[str, Any] = {
            "Violation": Violation,
            "check_bytes": check_bytes,
            "check_digests": check_digests,
            "check_text": check_text,
            "check_time": check_time,
            "too_deep": too_deep,
            "too_many": too_many,
        }

    def function(self) -> Check:
        """Write and compile it."""
        plan = self._plan
        self._add(f"if depth > {limits.MESSAGE_DEPTH}: too_deep()", "packed = 0")  # 2
        if plan.is_time:
            self._add("check_time(message)")
        for many in plan.many:
            self._many(many)
        for rule in plan.bytes_:
            self._bytes(rule)
        for name, cap in plan.digest_lists:
            self._add(f"packed += check_digests(message, {name!r}, {cap})")
        for text in plan.texts:
            self._add(f"value = message.{text.name}", "if value:")
            self._text(text, text.chars, "    ")
        for oneof, parts in plan.oneofs.items():
            table = self._name({name: _check_of_plan(nested) for name, nested in parts.items()})
            self._add(
                f"which = message.WhichOneof({oneof!r})",
                f"if which is not None and which in {table}:",
                f"    try: packed += {table}[which](getattr(message, which), depth + 1, texts)",
                "    except Violation as fault: raise fault.at('.' + which) from None",
            )
        for name, nested in plan.messages:
            check = self._name(_check_of_plan(nested))
            self._add(
                f"if message.HasField({name!r}):",
                f"    try: packed += {check}(message.{name}, depth + 1, texts)",
                f"    except Violation as fault: raise fault.at({'.' + name!r}) from None",
            )
        self._add("return packed")
        body = "".join(f"    {line}\n" for line in self._lines)
        source = f"def check(message, depth, texts):\n{body}"
        made: dict[str, Any] = {}
        exec(compile(source, "<caps>", "exec"), self._names, made)  # noqa: S102 - field names, numbers
        check_made: Check = made["check"]
        return check_made

    def _many(self, many: ManyRule) -> None:
        """Check 3, and 4 and 5 on the elements."""
        self._add(
            f"values = message.{many.name}",
            "if values:",
            f"    if len(values) > {many.items}: too_many(values, {many.items}, {many.name!r})",
        )
        if many.plan is not None:
            check = self._name(_check_of_plan(many.plan))
            self._add(
                "    for index, value in enumerate(values):",
                f"        try: packed += {check}(value, depth + 1, texts)",
                "        except Violation as fault:",
                f"            raise fault.at(f'.{many.name}[{{index}}]') from None",
            )
        elif many.text is not None:
            self._add("    for value in values:")
            self._text(many.text, many.text.chars, "        ")
            if many.mapped_text is not None:
                self._add("    for value in values.values():")
                self._text(many.mapped_text, many.mapped_text.chars, "        ")
        elif many.bytes_ is not None:
            rule = self._name(many.bytes_)
            self._add("    for value in values:", f"        check_bytes(value, {rule})")

    def _bytes(self, rule: BytesRule) -> None:
        """Check 4."""
        name = self._name(rule)
        here = f"check_bytes(message.{rule.name}, {name})"
        if rule.optional:
            here = f"if message.HasField({rule.name!r}): {here}"
        elif rule.exact:
            here = f"if len(message.{rule.name}) != {rule.cap}: {here}"
        self._add(here)

    def _text(self, rule: Any, chars: int, indent: str) -> None:
        """Check 5."""
        name = self._name(rule)
        self._add(
            f"{indent}if len(value) > {chars} or not value.isprintable():",
            f"{indent}    check_text(value, {name}, texts)",
            f"{indent}elif texts is not None: texts.add(value)",
        )

    def _add(self, *lines: str) -> None:
        self._lines += lines

    def _name(self, thing: Any) -> str:
        name = f"_{len(self._names)}"
        self._names[name] = thing
        return name
