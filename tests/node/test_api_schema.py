"""The API keeps to its OpenAPI document, whatever it is sent."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from api_client import DELIVERED, FAILED, PEERS, RUNNING, Program, fill
from doubles import Held
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from benchmarks.peers import find_free_port
from config import Settings
from dicom_io.headers import read_header
from node.services import open_services
from node.web.api.document import PREFIX, describe_api
from node.web.server import WebServer
from storage.database import upgrade_database
from storage.states import UserRole

SCHEMA = schemathesis.openapi.from_dict(describe_api())
OPERATIONS = [one.ok() for one in SCHEMA.get_all_operations()]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
EXAMPLES = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory, small_ct: list[Path]) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("node")
    chosen = Settings(data_dir=folder / "data", peers=PEERS, web={"port": find_free_port()})
    chosen.data_dir.mkdir()
    upgrade_database(chosen.database_url)
    with open_services(chosen) as services:
        uid = read_header(small_ct[0]).series_instance_uid
        held = Held(services=services, series_uid=uid, paths=small_ct)
        for path in small_ct:
            held.receive(path)
        fill(held, folder)
        server = WebServer(services)
        server.start()
        yield Program(services, "anna", UserRole.ADMINISTRATOR)
        server.stop()


def label(operation: schemathesis.APIOperation) -> str:
    return operation.label


def takes_something(operation: schemathesis.APIOperation) -> bool:
    return bool(operation.path_parameters or operation.query or operation.body)


def validate(caller: Program, cases: SearchStrategy[schemathesis.Case], count: int) -> None:
    address = caller.address.removesuffix(PREFIX)

    @settings(EXAMPLES, max_examples=count)
    @given(case=cases)
    def call(case):
        case.call_and_validate(base_url=address, headers=caller.headers, checks=CHECKS)

    call()


@pytest.mark.parametrize("operation", OPERATIONS, ids=label)
def test_good_calls_are_answered_as_described(caller, operation):
    count = 4 if takes_something(operation) else 1
    validate(caller, operation.as_strategy(GenerationMode.POSITIVE), count)


@pytest.mark.parametrize("operation", list(filter(takes_something, OPERATIONS)), ids=label)
def test_bad_calls_are_refused_as_described(caller, operation):
    validate(caller, operation.as_strategy(GenerationMode.NEGATIVE), 4)


@pytest.mark.parametrize("job_id", [DELIVERED, FAILED, RUNNING])
@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if "{job_id}" in one.path], ids=label
)
def test_calls_about_jobs_of_all_kinds_are_answered_as_described(caller, operation, job_id):
    known = {"job_id": job_id}
    if "{result_id}" in operation.path:
        known["result_id"] = 1
    cases = operation.as_strategy(GenerationMode.POSITIVE, path_parameters=known)
    validate(caller, cases, 3 if takes_something(operation) else 1)


@pytest.mark.parametrize("path", sorted({one.path for one in OPERATIONS}))
def test_other_methods_are_refused_and_the_right_ones_named(caller, path):
    own = {one.method.upper() for one in OPERATIONS if one.path == path}
    concrete = re.sub(r"\{\w+\}", "1", path.removeprefix(PREFIX))
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - own:
        answer = caller.call(method, concrete)
        assert answer.status_code == 405
        assert own <= set(answer.headers["Allow"].split(", "))
        assert answer.json() == {"detail": "Method Not Allowed."}
