"""Temporal's sandbox around workflow code, at a third of its usual cost.

As the SDK comes, it loads a workflow's module anew for every execution (5 ms here), and it enters
the sandbox for every payload, twice, to tell the converter whose it is. Here the modules are
loaded once per worker, which may be since ours keep no state, and the converter, which doesn't
look, isn't told. What the sandbox forbids stays forbidden (tests/workflows/test_sandbox.py). Both
reach into private parts of the SDK, whose version is pinned.
"""

from dataclasses import dataclass, field

from temporalio.converter._extstore import StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.worker.workflow_sandbox._importer import Importer
from temporalio.worker.workflow_sandbox._restrictions import RestrictionContext
from temporalio.worker.workflow_sandbox._runner import _Instance

# Imported once, outside the sandbox. None of them does work at import time.
_OUTSIDE = (
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "activities",
    "domain",
    "database",
    "messaging",
    "sqlalchemy",
)


def workflow_runner(*also_outside: str) -> SandboxedWorkflowRunner:
    """The sandbox of all workers; `also_outside` names further modules that it lets through."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*_OUTSIDE, *also_outside)
    return _Runner(restrictions=restrictions)


_NOWHERE = StorageDriverStoreContext(target=None)


class _Context(RestrictionContext):
    """Tells importing a module, which may look at the clock, from running it.

    Shared by all executions of a workflow: once its module is loaded, all of them run.
    """

    def __init__(self) -> None:
        self.loaded = False
        super().__init__()

    @property
    def is_runtime(self) -> bool:
        return self.loaded or self._is_runtime

    @is_runtime.setter
    def is_runtime(self, is_runtime: bool) -> None:
        self._is_runtime = is_runtime


@dataclass(frozen=True)
class _Runner(SandboxedWorkflowRunner):
    _modules: dict[type, Importer] = field(default_factory=dict, init=False)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """The first of a class, made before a worker polls, loads its module for all."""
        modules = self._modules.get(det.defn.cls)
        if modules is None:
            context = _Context()
            modules = Importer(self.restrictions, context, det.defn.cls.__module__)
            instance = _SharingInstance(det, self.runner_class, modules)
            context.loaded = True
            self._modules[det.defn.cls] = modules
            return instance
        return _SharingInstance(det, self.runner_class, modules)


class _SharingInstance(_Instance):
    def __init__(
        self, details: WorkflowInstanceDetails, runner: type[WorkflowRunner], modules: Importer
    ) -> None:
        self.instance_details = details
        self.runner_class = runner
        self.importer = modules
        self._current_thread_id = None
        self.globals_and_locals = {"__file__": "workflow_sandbox.py"}
        self._create_instance()

    def get_serialization_context(self, command_info: object) -> None:
        """To be dropped with the first codec that chooses a key by the customer."""
        return

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:
        """To be dropped with the first payload that is stored elsewhere."""
        return _NOWHERE
