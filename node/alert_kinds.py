"""The kinds of alerts: what each tells of, what to do then, and how patient it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from storage.records import AlertFinding

CALM = timedelta(minutes=10)
"""Nothing is over before it has not been seen for so long, so that what comes and goes is one."""


class AlertKind(StrEnum):
    """What can be wrong."""

    NODE_STOPPED = "node-stopped"
    ROLE_DIED = "role-died"
    ROLE_MISSING = "role-missing"
    DATABASE_DOWN = "database-down"
    DISK_LOW = "disk-low"
    DISK_SHORT = "disk-short"
    QUEUE_TOO_OLD = "queue-too-old"
    JOBS_FAILED = "jobs-failed"
    DELIVERY_FAILING = "delivery-failing"
    DELIVERY_GIVEN_UP = "delivery-given-up"
    CERTIFICATE_EXPIRING = "certificate-expiring"
    ALERTS_NOT_TAKEN = "alerts-not-taken"

    def finding(self, subject: str, message: str) -> AlertFinding:
        """Make a finding of this kind."""
        return AlertFinding(kind=self.value, subject=subject, message=message)


@dataclass(frozen=True, kw_only=True)
class AlertDefinition:
    """What stands in the table about a kind."""

    meaning: str
    action: str
    """What to do."""
    example: tuple[str, str]
    """A subject and a message, for tests of the ways."""
    patience: timedelta = timedelta(0)
    """People are told once it has lasted so long."""
    calm: timedelta = CALM
    """It is over once it was not seen for so long."""


KINDS: Mapping[AlertKind, AlertDefinition] = MappingProxyType(
    {
        AlertKind.NODE_STOPPED: AlertDefinition(
            meaning="`hepar serve` was asked to stop, or was killed and its roles were not",
            action="If nobody meant to, start it with `hepar serve`; its log says why it ended.",
            example=("ct-node", "The node on ct-node is being stopped."),
        ),
        AlertKind.ROLE_DIED: AlertDefinition(
            meaning="a process died and is started again; over after an hour without another",
            action="Look for `role died` in the log of the node, and at what stands before it.",
            example=(
                "worker on ct-node",
                "The role worker on ct-node died (SIGKILL) and is started again; 3 times in the "
                "last hour.",
            ),
            calm=timedelta(hours=1),
        ),
        AlertKind.ROLE_MISSING: AlertDefinition(
            meaning="no process of a role has given a sign of life for two minutes",
            action="`hepar serve` runs all roles; the log of the node says why one does not start.",
            example=("receiver", "No process of the role receiver gives a sign of life."),
            patience=timedelta(minutes=2),
            # It is no news that roles are missing while a node is stopped or started.
            calm=timedelta(minutes=1),
        ),
        AlertKind.DATABASE_DOWN: AlertDefinition(
            meaning="the job database has not answered for a minute; instances are refused",
            action="`hepar doctor` says what is wrong with it.",
            example=("job database", "The job database does not answer; instances are refused."),
            patience=timedelta(minutes=1),
        ),
        AlertKind.DISK_LOW: AlertDefinition(
            meaning="less than three times `receive.min_free_bytes` is free for the data folder",
            action="`hepar retention preview` says what could go; make room before it is short.",
            example=("data folder", "2.4 GB are free; below 1 GB instances are refused."),
        ),
        AlertKind.DISK_SHORT: AlertDefinition(
            meaning="less than `receive.min_free_bytes` is free: instances are refused (0xA700)",
            action="Make room; `hepar retention preview` says what could go.",
            example=("data folder", "0.4 GB are free, below 1 GB: instances are refused."),
        ),
        AlertKind.QUEUE_TOO_OLD: AlertDefinition(
            meaning="a job has waited for a worker for longer than `alerts.queue_age_min`",
            action="See whether workers run (`hepar doctor --running`); `queue.workers` sets more.",
            example=("queue", "9 jobs wait for a worker, the oldest for 47 min."),
        ),
        AlertKind.JOBS_FAILED: AlertDefinition(
            meaning="jobs became FAILED in the last hour, for another reason than their delivery",
            action="`hepar jobs list --state FAILED` has the reasons; `hepar jobs retry` repeats.",
            example=("jobs", "2 jobs have FAILED in the last hour (ATTEMPTS_USED_UP: 2)."),
        ),
        AlertKind.DELIVERY_FAILING: AlertDefinition(
            meaning="a destination has not taken results for `alerts.delivery_failing_min`",
            action="`hepar echo NAME` tries the connection; `hepar jobs show` has the cause.",
            example=("pacs", "pacs has not taken results for 47 min; 5 deliveries wait."),
        ),
        AlertKind.DELIVERY_GIVEN_UP: AlertDefinition(
            meaning="deliveries to a destination were given up in the last hour",
            action="Mend the connection, then `hepar jobs retry` each: the results are kept.",
            example=("pacs", "2 deliveries to pacs were given up in the last hour."),
        ),
        AlertKind.CERTIFICATE_EXPIRING: AlertDefinition(
            meaning="a certificate of ours ends within `alerts.certificate_days`, or is unusable",
            action="Put a new certificate and key in its place, then start the node again.",
            example=("node.tls", "The certificate of [node.tls] ends on 2030-01-01, in 12 days."),
        ),
        AlertKind.ALERTS_NOT_TAKEN: AlertDefinition(
            meaning="mail server or webhook do not take alerts; the other way tells of it",
            action="`hepar alerts test` tries again and says what is wrong.",
            example=("mail", "Alerts by mail are not taken: the login was refused."),
        ),
    }
)
"""Each kind of alert."""
