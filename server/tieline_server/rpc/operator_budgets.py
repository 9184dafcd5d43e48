"""Budgets on the operator port."""

from __future__ import annotations

import grpc
from tieline.v1 import budget_pb2 as pb
from tieline.v1 import operator_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.services.budget_views import BudgetDesk
from tieline_server.services.context import Person


class BudgetMethods(operator_pb2_grpc.OperatorServiceServicer):
    """A part of `operator.OperatorServicer`."""

    _budgets: BudgetDesk

    def ListBudgets(
        self, request: pb.ListBudgetsRequest, context: grpc.ServicerContext
    ) -> pb.ListBudgetsResponse:
        """What peers may ask here, and what is left at them."""
        return self._budgets.find()

    def SetBudget(
        self, request: pb.SetBudgetRequest, context: grpc.ServicerContext
    ) -> pb.SetBudgetResponse:
        """An admin's word."""
        caller = caller_of(context)
        admin = Person(caller.operator or "", caller.roles)
        units = request.units if request.HasField("units") else None
        view = self._budgets.set(admin, request.agency, request.purpose, units)
        return pb.SetBudgetResponse(budget=view)
