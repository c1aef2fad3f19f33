from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import String, inspect, text

from storage import records, tables
from storage.errors import DatabaseError


@pytest.mark.parametrize(
    ("record", "row"),
    [
        (records.SeriesEvent, tables.SeriesEventRow),
        (records.InstanceRecord, tables.InstanceRow),
        (records.SeriesRecord, tables.SeriesRow),
        (records.JobRecord, tables.JobRow),
        (records.JobEvent, tables.JobEventRow),
        (records.ResultRecord, tables.ResultRow),
        (records.DeliveryRecord, tables.DeliveryRow),
        (records.ProofRecord, tables.ProofRow),
        (records.RetrievalRecord, tables.RetrievalRow),
        (records.RoleBeat, tables.RoleHeartbeatRow),
        (records.Pause, tables.PauseRow),
        (records.UserRecord, tables.UserRow),
        (records.AccessRecord, tables.AccessRow),
        (records.AuditRecord, tables.AuditRow),
    ],
)
def test_records_have_the_columns_of_their_rows(record: type, row: type) -> None:
    columns = set(inspect(row).columns.keys())
    given = {field.name for field in fields(record)}
    assert {name for name in columns - given if not name.endswith("_key")} <= {"id"}
    assert given <= columns


def test_columns_of_patient_data_are_those_that_people_search_by() -> None:
    words = ("patient", "birth", "accession", "sex", "referring")
    columns = [
        f"{table.name}.{column.name}"
        for table in tables.Base.metadata.sorted_tables
        for column in table.columns
        if any(word in column.name for word in words)
    ]
    assert columns == [
        "audit.patient_id",
        "series.patient_id",
        "series.patient_name",
        "series.accession_number",
        "series.patient_id_key",
        "series.patient_name_key",
        "series.accession_number_key",
    ]


def test_times_come_back_aware_and_in_utc(node: Any) -> None:
    berlin = timezone(timedelta(hours=1))
    node.receive()
    with node.database.write() as session:
        row = session.get_one(tables.SeriesRow, "1.2.3.4")
        row.last_received_at = datetime(2026, 3, 1, 15, 0, 0, 123456, tzinfo=berlin)
    found = node.catalog.get_series("1.2.3.4").last_received_at
    assert found == datetime(2026, 3, 1, 14, 0, 0, 123456, tzinfo=UTC)
    assert found.utcoffset() == timedelta(0)


def test_a_zero_character_of_a_peer_harms_nothing(node: Any, moment: Any) -> None:
    node.receive(modality="C\0T")
    assert node.catalog.get_series("1.2.3.4").modality == "C\ufffdT"
    node.produced(series_uid="1.2.3.5")
    delivery = node.claim()
    node.deliveries.attempt_failed(delivery.id, "s1", "0xA700 (\0\0)", None, moment(50))
    assert "0xA700 (\ufffd\ufffd)" in node.jobs.get(1).reason


def test_a_naive_time_is_refused(node: Any) -> None:
    with pytest.raises(Exception, match="has no time zone"):
        node.jobs.claim("w1", 30, datetime(2026, 3, 1, 12, 0))  # noqa: DTZ001


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE job SET state = 'DONE'",
        "UPDATE job SET state = 'RUNNING', lease_until = NULL",
        "UPDATE job SET attempts = -1",
        "UPDATE job SET series_uid = '9.9'",
        "UPDATE delivery SET state = 'DONE'",
        "UPDATE series SET settled = false",
        "UPDATE series SET decision = 'maybe'",
        "INSERT INTO delivery SELECT 99, job_id, destination, state, attempts, first_attempt_at, "
        "next_attempt_at, last_error, owner, lease_until, created_at, updated_at, profile "
        "FROM delivery",
        "DELETE FROM series",
    ],
)
def test_the_database_itself_refuses_what_makes_no_sense(node: Any, change: str) -> None:
    node.produced()
    with pytest.raises(DatabaseError, match="constraint"), node.database.write() as s:
        s.execute(text(change))


def test_uids_fit(node: Any) -> None:
    del node
    for table in tables.Base.metadata.tables.values():
        for column in table.columns:
            if column.name.endswith("_uid"):
                assert isinstance(column.type, String)
                assert column.type.length == 64
