"""Errors of storage.

StorageError
+-- DatabaseError             the database does not answer, is locked or full, or refuses a row
|   +-- DatabaseDamaged       its file cannot be read
+-- UnusableUrl               the setting `database.url` cannot be used
+-- SchemaOutdated            the database waits for `hepar db upgrade`
+-- SchemaTooNew              the database was upgraded by a newer version
+-- BackupFailed              no backup of the database was made
+-- UnusableBackup            a file is no backup that this version can restore
+-- RestoreRefused            the database is in use, or holds something
+-- ProgramMissing            a program of PostgreSQL is not installed
+-- DiskShort                 less free space than the settings demand, or none at all
+-- FileStoreError            a file of the data folder cannot be written or read
+-- NotFound                  no such job, series, delivery, pull or storage commitment
+-- NameTaken                 there is a user of this name
+-- UsersExist                the first user was made before
+-- LastAdministrator         nobody would be left who can make users
+-- ForbiddenTransition       the state table does not allow it
+-- StaleJob                  the row has changed since it was read; nothing was changed
    +-- LeaseLost             the worker or sender no longer holds the job or delivery
    |   +-- RetrievalLost     the scheduler no longer holds the retrieval
    +-- SeriesChanged         the series no longer has the content that the job was made for
    +-- NewerRequest          another job stands for the series, because a person asked for it
    +-- ModelInUse            a job of that model stands for the series already
    +-- ResultsRemoved        the files of its results were removed
    +-- InstancesRemoved      the files of its series were removed
"""

from datetime import datetime


class StorageError(Exception):
    """Base of all errors of storage."""


class DatabaseError(StorageError):
    """The database does not answer, is locked or full, or refuses a row."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the job database failed: {cause}")


class DatabaseDamaged(DatabaseError):
    """The file of the database cannot be read."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"{cause}; stop the node and put a backup back with `hepar db restore FILE --replace`, "
            "which keeps the damaged file"
        )


class UnusableUrl(StorageError):
    """The setting `database.url` cannot be used."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"database.url cannot be used: {cause}; write sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/NAME"
        )


class SchemaOutdated(StorageError):
    """The database has an older schema than this version needs."""

    def __init__(self, found: str | None, expected: str) -> None:
        self.found = found
        self.expected = expected
        says = (
            f"has schema {found}, this version needs {expected}" if found else "has no tables yet"
        )
        super().__init__(f"the job database {says}; run `hepar db upgrade`")


class SchemaTooNew(StorageError):
    """The database has a schema that this version does not know."""

    def __init__(self, found: str, expected: str) -> None:
        self.found = found
        self.expected = expected
        super().__init__(
            f"the job database has schema {found}, which this version (schema {expected}) does not "
            "know; it was upgraded by a newer version of hepar: run that one, or restore the "
            "backup that was made before the upgrade"
        )


class BackupFailed(StorageError):
    """No backup of the database was made."""

    def __init__(self, path: object, cause: str) -> None:
        super().__init__(f"no backup was written to {path}: {cause}")


class UnusableBackup(StorageError):
    """A file is no backup that this version can restore; the database is as it was."""

    def __init__(self, path: object, cause: str) -> None:
        super().__init__(f"{path} cannot be restored: {cause}")


class RestoreRefused(StorageError):
    """The database is in use, or holds something; it is as it was."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"nothing was restored: {cause}")


class ProgramMissing(StorageError):
    """A program of PostgreSQL is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is not installed; it is one of PostgreSQL's client programs "
            "(Debian: apt-get install postgresql-client)"
        )


class DiskShort(StorageError):
    """The disk of the data folder has too little free space."""

    def __init__(self, free_bytes: int, needed_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.needed_bytes = needed_bytes
        super().__init__(
            f"the disk of the data folder has {free_bytes} bytes free, {needed_bytes} are needed"
        )


class FileStoreError(StorageError):
    """A file of the data folder cannot be written or read."""

    def __init__(self, path: object, cause: str) -> None:
        self.path = path
        super().__init__(f"{path}: {cause}")


class NotFound(StorageError):
    """There is no such row."""

    def __init__(self, kind: str, key: object) -> None:
        self.kind = kind
        self.key = key
        super().__init__(f"there is no {kind} {key}")


class ForbiddenTransition(StorageError):
    """The state table does not allow it."""

    def __init__(self, job_id: int, from_state: str, action: str) -> None:
        self.job_id = job_id
        self.from_state = from_state
        self.action = action
        super().__init__(f"job {job_id} is {from_state} and cannot {action}")


class StaleJob(StorageError):
    """The row has changed since it was read; nothing was changed."""

    kind = "job"

    def __init__(self, job_id: int, what: str = "it has changed in the meantime") -> None:
        self.job_id = job_id
        super().__init__(f"{self.kind} {job_id}: {what}")


class LeaseLost(StaleJob):
    """The worker or sender no longer holds the job or delivery; its work is to be dropped."""

    def __init__(self, job_id: int, holder: str, state: str) -> None:
        self.holder = holder
        self.state = state
        super().__init__(job_id, f"{holder} no longer holds it, it is {state}")


class RetrievalLost(LeaseLost):
    """The scheduler no longer holds the retrieval, as when a person has canceled it."""

    kind = "retrieval"


class SeriesChanged(StaleJob):
    """The series no longer has the content that the job was made for."""

    def __init__(self, job_id: int, series_uid: str) -> None:
        self.series_uid = series_uid
        super().__init__(
            job_id, f"series {series_uid} has got more instances since; see its newer job"
        )


class NewerRequest(StaleJob):
    """Another job stands for the same content of the series, because a person asked for it."""

    def __init__(self, job_id: int, newer_id: int, model: str) -> None:
        super().__init__(
            job_id,
            f"job {newer_id} stands for the series now; to have this one's model ({model}) process "
            f"it again, use `hepar jobs reprocess {job_id} --model NAME`",
        )


class ModelInUse(StaleJob):
    """A job of the model that is asked for stands for the series already."""

    def __init__(self, job_id: int, model: str, state: str) -> None:
        super().__init__(
            job_id,
            f"it is for {model} and the same series already, and is {state}; name another model, "
            f"or send its results again with `hepar jobs resend {job_id}`",
        )


class ResultsRemoved(StaleJob):
    """The files of a job's results were removed."""

    def __init__(self, job_id: int, removed_at: datetime) -> None:
        super().__init__(
            job_id,
            f"its results were removed on {removed_at:%Y-%m-%d}, by a rule of [retention]; "
            f"`hepar jobs retry {job_id}` makes them again under the same UIDs, if the series is "
            "still there or is sent again first",
        )


class InstancesRemoved(StaleJob):
    """The files of a job's series were removed."""

    def __init__(self, job_id: int, series_uid: str, count: int) -> None:
        super().__init__(
            job_id,
            f"{count} instances of series {series_uid} were removed by a rule of [retention]; send "
            "the series to this node again, then retry",
        )


class NameTaken(StorageError):
    """There is a user of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a user {name!r} already")


class UsersExist(StorageError):
    """The first user was made before."""

    def __init__(self) -> None:
        super().__init__("the first user was made already; log in, or ask an administrator")


class LastAdministrator(StorageError):
    """Nobody would be left who can make users."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is the last administrator; make another one first")
