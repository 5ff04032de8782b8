"""The marketing contact with one command more, as an unguarded and as a guarded change.

In a file of its own: the sandbox imports the module of a workflow.
"""

from datetime import timedelta

from temporalio import workflow

from domain.marketing import MarketingInput
from workflows.marketing import MarketingContact


@workflow.defn(name="MarketingContact")
class Unguarded(MarketingContact):
    @workflow.run
    async def run(self, contact: MarketingInput) -> str:
        await workflow.sleep(timedelta(seconds=1))
        return await super().run(contact)


@workflow.defn(name="MarketingContact")
class Guarded(MarketingContact):
    @workflow.run
    async def run(self, contact: MarketingInput) -> str:
        if workflow.patched("a moment's pause first"):
            await workflow.sleep(timedelta(seconds=1))
        return await super().run(contact)
