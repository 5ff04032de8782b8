"""What keeps a process from going on, what that means, and what a retry does about it."""

from enum import StrEnum
from typing import NamedTuple


class Trouble(StrEnum):
    FAILED = "failed"
    ENDED_BY_FORCE = "ended_by_force"
    TASK_FAILING = "task_failing"
    STEP_FAILING = "step_failing"
    ACTIVITY_FAILING = "activity_failing"
    NO_WORKER = "no_worker"
    STANDS_STILL = "stands_still"
    UNKNOWN_TO_TEMPORAL = "unknown_to_temporal"


class Explained(NamedTuple):
    means: str
    retry: str  # what it does, for whoever is about to press it; empty: there is nothing to retry


_GOES_BACK = (
    "Goes back to the last point at which all was well and goes on from there. What reached the "
    "process since then is told to it again. What it has done stays done: a step that is in the "
    "records is found there and not done twice."
)

EXPLAINED: dict[Trouble, Explained] = {
    Trouble.FAILED: Explained(
        "It met something that trying again by itself cannot cure, and has ended.",
        f"{_GOES_BACK} See to the cause first, else it fails again.",
    ),
    Trouble.ENDED_BY_FORCE: Explained(
        "Somebody ended it in Temporal, or its time ran out; it could not write that down.",
        f"{_GOES_BACK} Leave it alone if it was ended for good.",
    ),
    Trouble.TASK_FAILING: Explained(
        "Our program stumbles over its history. Temporal asks again, ever more rarely; once the "
        "program is mended, the process goes on by itself.",
        f"{_GOES_BACK} It helps once the program is mended, or if only its last step was at fault.",
    ),
    Trouble.STEP_FAILING: Explained(
        "A step cannot be written down. It is tried again by itself, at least twice a minute.",
        f"{_GOES_BACK} So the step is tried at once.",
    ),
    Trouble.ACTIVITY_FAILING: Explained(
        "What it is at fails. It is tried again by itself, ever more rarely.",
        "Tries it at once, as if for the first time.",
    ),
    Trouble.NO_WORKER: Explained(
        "It wants to go on and no worker gets through it: see whether workers run and keep up.",
        "",
    ),
    Trouble.STANDS_STILL: Explained(
        "It should have acted and has not; Temporal knows of nothing that hinders it.",
        _GOES_BACK,
    ),
    Trouble.UNKNOWN_TO_TEMPORAL: Explained(
        "It is open in our records, and Temporal does not know it: Temporal's data may be those of "
        "another day. There is nothing to go back to.",
        "",
    ),
}
