"""Processes that sell: they rest while a complaint or a recovery case of the customer is open."""

from collections.abc import Callable

from temporalio import workflow

from domain.processes import Fact
from workflows.process import Process


class SellingProcess(Process):
    def __init__(self) -> None:
        super().__init__()
        self._held = False

    @workflow.signal
    def selling_held(self, fact: Fact) -> None:
        self._held = True

    @workflow.signal
    def selling_released(self, fact: Fact) -> None:
        self._held = False

    async def _until_selling_allowed(self, or_else: Callable[[], bool]) -> None:
        """Wait while selling is held back, unless something else happens first."""
        if self._held:
            await self._until(lambda: not self._held or or_else(), None, "")
