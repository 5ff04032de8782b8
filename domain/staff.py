"""Who works here, and what each role may do: the one matrix that the API and the console obey."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from domain.processes import ProcessKind
from domain.tasks import Role

# OWASP ASVS 5.0 §7.3: a session ends by rest and by age.
SESSION_RESTS_AT_MOST = timedelta(hours=12)
SESSION_LASTS_AT_MOST = timedelta(days=7)
# NIST SP 800-63B §5.1.3 lets a secret that was handed over be of use for a while only.
ONE_TIME_PASSWORD_LASTS = timedelta(hours=72)
# Failures for one account or one address, then it waits twice as long after each further one.
FREE_FAILURES = 5
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=10), timedelta(minutes=15)
# Without this a shared address would wait for what somebody mistyped a year ago.
FAILURES_COUNT_FOR = timedelta(days=1)  # since the last one


class Permission(StrEnum):
    """A thing that is done. Reading what is known of customers is free to everybody who works."""

    CHANGE_OWN_PASSWORD = "change_own_password"
    READ = "read"
    EDIT_CUSTOMERS = "edit_customers"  # also their contact points, consents and promises
    START_MARKETING = "start_marketing"
    START_SUPPORT = "start_support"
    START_FOLLOW_UP = "start_follow_up"
    START_RETENTION = "start_retention"
    WORK_TASKS = "work_tasks"
    WORK_CASES = "work_cases"
    REPORT_ORDERS = "report_orders"  # orders placed by hand, and their milestones
    STEER_PROCESSES = "steer_processes"
    RUN_SCHEDULES = "run_schedules"
    EDIT_TEMPLATES = "edit_templates"
    PUBLISH_TEMPLATES = "publish_templates"
    PUBLISH_POLICIES = "publish_policies"
    MANAGE_STAFF = "manage_staff"
    READ_AUDIT = "read_audit"
    INTEGRATE = "integrate"  # what other systems do: reports, imports, simulations


_EVERYBODY = frozenset({Permission.CHANGE_OWN_PASSWORD, Permission.READ})
_WITH_CUSTOMERS = _EVERYBODY | {Permission.EDIT_CUSTOMERS, Permission.WORK_TASKS}
_MANAGER = frozenset(Permission) - {Permission.MANAGE_STAFF, Permission.INTEGRATE}

PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.SALES_REP: _WITH_CUSTOMERS | {Permission.START_MARKETING, Permission.REPORT_ORDERS},
    Role.SUPPORT_AGENT: _WITH_CUSTOMERS
    | {Permission.START_SUPPORT, Permission.START_FOLLOW_UP, Permission.WORK_CASES},
    Role.ACCOUNT_MANAGER: _WITH_CUSTOMERS
    | {
        Permission.START_MARKETING,
        Permission.START_SUPPORT,
        Permission.START_FOLLOW_UP,
        Permission.START_RETENTION,
        Permission.WORK_CASES,
        Permission.EDIT_TEMPLATES,
    },
    Role.OPS: _EVERYBODY
    | {
        Permission.WORK_TASKS,
        Permission.REPORT_ORDERS,
        Permission.STEER_PROCESSES,
        Permission.RUN_SCHEDULES,
        Permission.READ_AUDIT,
    },
    Role.MANAGER: _MANAGER,
    Role.ADMIN: frozenset(Permission),
}


STARTS: Mapping[ProcessKind, Permission] = {
    ProcessKind.MARKETING: Permission.START_MARKETING,
    ProcessKind.SUPPORT: Permission.START_SUPPORT,
    ProcessKind.FOLLOW_UP: Permission.START_FOLLOW_UP,
    ProcessKind.RETENTION: Permission.START_RETENTION,
}


@dataclass(frozen=True)
class Principal:
    """Who asks: a member of staff, or a program with the API key, which may do everything."""

    id: str
    role: Role | None = None
    one_time: bool = False  # signed in by a password that has to be replaced first

    def may(self, permission: Permission) -> bool:
        return self.role is None or permission in PERMISSIONS[self.role]

    @property
    def is_staff(self) -> bool:
        return self.role is not None


PROGRAM = Principal("api")


def wait_after(failures: int) -> timedelta:
    """How long a sign-in has to wait after so many failures in a row."""
    if failures < FREE_FAILURES:
        return timedelta(0)
    doubled: timedelta = FIRST_WAIT * 2 ** min(failures - FREE_FAILURES, 20)
    return min(doubled, LONGEST_WAIT)
