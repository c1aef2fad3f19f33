"""DICOMweb as its user (PS3.18): STOW-RS, QIDO-RS and WADO-RS.

The questions are those of C-FIND and C-GET, so that the rest of the node need not know of HTTP.
"""

import json
import logging
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from config import NodeSettings, WebPeerSettings
from dicom_io.errors import DicomIOError, UndecodableInstance
from dicom_io.values import DAMAGED_FILE_ERRORS
from node.errors import PeerRefused, PeerTimedOut, PeerUnreachable, UnusableTls
from node.ingest import OnInstance
from node.multipart import FileBody, MalformedBody, split_parts
from node.scu import Outgoing, SentInstance

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

_JSON = "application/dicom+json"
_PAGE = 500
"""So many matches are asked for at a time."""
_TEXT_CHARACTERS = 160
"""So much of an answer in words is told."""
_ABOUT_THE_INSTANCE = frozenset({400, 409, 413, 415, 422})
"""HTTP status codes of a store that say something about what was sent, not about the sender."""
_PASSING = frozenset({408, 429})
"""HTTP status codes below 500 after which the same request may succeed."""
_GONE = frozenset({404, 410})
RESOURCES: Mapping[str, tuple[str, Sequence[str]]] = {
    "STUDY": ("/studies", ()),
    "SERIES": ("/studies/{}/series", ("StudyInstanceUID",)),
    "IMAGE": ("/studies/{}/series/{}/instances", ("StudyInstanceUID", "SeriesInstanceUID")),
}
"""Level of a query to its resource, and the keys that stand in that."""
_HINTS: Mapping[int, str] = {
    401: "check user and password, or token, of the peer",
    403: "this user may not do that",
    404: "check the path in `url`",
}


def echo(node: NodeSettings, peer: WebPeerSettings) -> None:
    """Ask a service for one study, any one: there is no C-ECHO in DICOMweb.

    Raises
    ------
    PeerUnreachable
        When no answer comes.
    PeerRefused
        When it is no answer to a query.
    """
    with _connect(node, peer) as client:
        _search(client, peer, "/studies", {"limit": "1"})


def read_clock(node: NodeSettings, peer: WebPeerSettings) -> datetime | None:
    """Give the time that a service has, from the Date of an answer (RFC 9110 6.6.1), if it says.

    Raises
    ------
    PeerUnreachable
        When an answer does not come.
    """
    with _connect(node, peer) as client:
        told = client.get(f"{peer.url}/studies", params={"limit": "1"}).headers.get("date")
    try:
        return None if told is None else parsedate_to_datetime(told)
    except ValueError:
        return None


def send_files(
    node: NodeSettings,
    peer: WebPeerSettings,
    paths: Sequence[Path],
    on_sent: Callable[[SentInstance], None] | None = None,
) -> list[SentInstance]:
    """Send part-10 files by STOW-RS (PS3.18 10.5), one a request, so that each gets its answer.

    Parameters
    ----------
    node
        Our time limits.
    peer
        Who gets them.
    paths
        The files, sent in this order, as they are.
    on_sent
        Called after each answer.

    Raises
    ------
    PeerUnreachable
        When an answer does not come.
    PeerRefused
        When one is not about the instance, as where the password is wrong.
    """
    sent = []
    with _connect(node, peer) as client:
        for path in paths:
            sent.append(_send_one(client, peer, path))
            if on_sent is not None:
                on_sent(sent[-1])
    return sent


def find(
    node: NodeSettings, peer: WebPeerSettings, key: Dataset, limit: int | None = None
) -> list[Dataset]:
    """Ask by QIDO-RS (PS3.18 10.6) what C-FIND is asked with an identifier, and give the matches.

    No more than `limit` are given.

    Raises
    ------
    PeerUnreachable
        When an answer does not come.
    PeerRefused
        When the query fails.
    """
    resource, parameters = _query_of(key)
    found: dict[tuple[str, ...], Dataset] = {}
    with _connect(node, peer) as client:
        while True:
            before = len(found)
            page = parameters | {"limit": str(min(_PAGE, limit or _PAGE)), "offset": str(before)}
            matches = _search(client, peer, resource, page)
            found |= {_identity(match): match for match in matches}
            # A service may give fewer than asked for, or, knowing no offset, the same ever again.
            if len(found) == before or (limit is not None and len(found) >= limit):
                return list(found.values())[:limit]


def get(
    node: NodeSettings,
    peer: WebPeerSettings,
    key: Dataset,
    syntaxes: Mapping[str, Sequence[str]],
    on_instance: OnInstance,
) -> None:
    """Retrieve by WADO-RS (PS3.18 10.4) what an identifier of the level IMAGE lists.

    Parameters
    ----------
    node
        Our time limits.
    peer
        Who is asked.
    key
        Study, series and a list of SOP instance UIDs.
    syntaxes
        The storage SOP classes that may come, each with its transfer syntaxes; what else comes is
        left out, as is what is not there.
    on_instance
        Takes each instance; what it refuses is left out.

    Raises
    ------
    PeerUnreachable
        When an answer does not come.
    PeerRefused
        When the retrieval fails.
    """
    resource, _ = _query_of(key)
    accepted = {syntax for those in syntaxes.values() for syntax in those}
    wanted = accepted.pop() if len(accepted) == 1 else "*"
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={wanted}'
    with _connect(node, peer) as client:
        for uid in _values(key, "SOPInstanceUID"):
            response = client.get(f"{peer.url}{resource}/{uid}", headers={"Accept": accept})
            if response.status_code in _GONE:
                continue
            _check(response, f"{peer.ae_title} refuses a retrieval")
            for content in _parts_of(response):
                _take(content, uid, syntaxes, on_instance)


@contextmanager
def _connect(node: NodeSettings, peer: WebPeerSettings) -> "Iterator[httpx.Client]":
    """Give a client; what goes wrong on the way becomes PeerUnreachable."""
    import httpx

    timeout = httpx.Timeout(
        node.network_timeout_s, connect=node.acse_timeout_s, read=node.dimse_timeout_s
    )
    headers = {"Accept": _JSON}
    auth = None
    if peer.token is not None:
        headers["Authorization"] = f"Bearer {peer.token.get_secret_value()}"
    if peer.user is not None and peer.password is not None:
        auth = httpx.BasicAuth(peer.user, peer.password.get_secret_value())
    try:
        with httpx.Client(
            auth=auth, headers=headers, timeout=timeout, verify=_make_context(peer)
        ) as client:
            yield client
    except httpx.TimeoutException as error:
        waited_s = timeout.connect if isinstance(error, httpx.ConnectTimeout) else timeout.read
        raise PeerTimedOut(peer.ae_title, peer.url, waited_s or 0.0) from error
    except httpx.TransportError as error:
        raise PeerUnreachable(peer.ae_title, peer.url, str(error) or "it broke off") from error


def _make_context(peer: WebPeerSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=peer.authorities)
    except (OSError, ssl.SSLError) as error:
        raise UnusableTls(f"authorities {peer.authorities} cannot be used: {error}") from error


def _send_one(client: "httpx.Client", peer: WebPeerSettings, path: Path) -> SentInstance:
    uid = Outgoing.read(path).sop_instance_uid
    body = FileBody(path)
    response = client.post(f"{peer.url}/studies", content=body, headers=body.headers)
    if response.status_code not in _ABOUT_THE_INSTANCE:
        _check(response, f"{peer.ae_title} refuses to store")
    status, comment = _read_report(response, uid)
    return SentInstance(path=path, sop_instance_uid=uid, status=status, comment=comment)


def _read_report(response: "httpx.Response", uid: str) -> tuple[int | None, str]:
    """Give the status of an instance by a Store Instances Response (PS3.18 I.2); none without.

    One instance was sent, so a failure is its own, also where its UID could not be read.
    """
    try:
        report = next(iter(_read_json(response)), Dataset())
    except MalformedBody:
        report = Dataset()
    for item in report.get("ReferencedSOPSequence") or ():
        if item.get("ReferencedSOPInstanceUID") == uid:
            return int(item.get("WarningReason") or 0), ""
    for item in report.get("FailedSOPSequence") or ():
        return int(item.get("FailureReason") or 0x0110), ""
    return None, f"{_describe(response)}, and no report on the instance"


def _query_of(key: Dataset) -> tuple[str, dict[str, str | list[str]]]:
    """Give resource and parameters of an identifier: values match, empty ones are returned.

    What is to be returned is named one by one: Orthanc overlooks a list with encoded commas.
    """
    resource, above = RESOURCES[key.QueryRetrieveLevel]
    rest = [e.keyword for e in key if e.keyword not in (*above, "QueryRetrieveLevel")]
    parameters = {keyword: ",".join(_values(key, keyword)) for keyword in rest}
    matching: dict[str, str | list[str]] = {k: value for k, value in parameters.items() if value}
    returned = [keyword for keyword, value in parameters.items() if not value]
    if returned:
        matching["includefield"] = returned
    return resource.format(*(key[keyword].value for keyword in above)), matching


def _values(key: Dataset, keyword: str) -> list[str]:
    value = key[keyword].value
    return [str(one) for one in ([value] if isinstance(value, str) else value or ())]


def _search(
    client: "httpx.Client",
    peer: WebPeerSettings,
    resource: str,
    parameters: Mapping[str, str | list[str]],
) -> list[Dataset]:
    response = client.get(f"{peer.url}{resource}", params=parameters)
    _check(response, f"{peer.ae_title} refuses a query")
    if response.status_code == HTTPStatus.NO_CONTENT:
        return []
    try:
        return _read_json(response)
    except MalformedBody as error:
        raise PeerRefused(f"{peer.ae_title} answers a query, but {error}; check `url`") from error


def _read_json(response: "httpx.Response") -> list[Dataset]:
    """Read the data sets of a body in DICOM JSON (PS3.18 annex F)."""
    try:
        content = json.loads(response.content)
        return [
            Dataset.from_json(one, bulk_data_uri_handler=lambda _: None)
            for one in (content if isinstance(content, list) else [content])
        ]
    except DAMAGED_FILE_ERRORS as error:
        raise MalformedBody("the answer is no DICOM JSON") from error


def _identity(match: Dataset) -> tuple[str, ...]:
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return tuple(str(match.get(keyword, "")) for keyword in keywords)


def _parts_of(response: "httpx.Response") -> list[bytes]:
    try:
        return split_parts(response.headers.get("Content-Type", ""), response.content)
    except MalformedBody as error:
        raise PeerRefused(f"{response.url} cannot be read: {error}") from error


def _take(
    content: bytes, uid: str, syntaxes: Mapping[str, Sequence[str]], on_instance: OnInstance
) -> None:
    """Hand an instance on unless it is of another kind than asked for."""
    try:
        sop_class, syntax = _kind_of(content)
        if syntax in syntaxes.get(sop_class, ()):
            on_instance(content, sop_class_uid=sop_class, sop_instance_uid=uid)
        else:
            logger.warning("instance left out: %s in %s", sop_class, syntax)
    except DicomIOError as error:
        logger.warning("instance left out: %s", error, extra={"action": "refuse"})


def _kind_of(content: bytes) -> tuple[str, str]:
    """Read SOP class and transfer syntax of a part-10 file."""
    try:
        meta = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=[]).file_meta
        return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except InvalidDicomError as error:
        raise UndecodableInstance("not a DICOM file: the prefix DICM is missing") from error
    except DAMAGED_FILE_ERRORS as error:
        raise UndecodableInstance(f"the data set is damaged: {error}") from error


def _check(response: "httpx.Response", what: str) -> None:
    if not response.is_success:
        passing = response.is_server_error or response.status_code in _PASSING
        raise PeerRefused(f"{what}: {_describe(response)}", lasting=not passing)


def _describe(response: "httpx.Response") -> str:
    """Say what an answer says, and what to do about it."""
    parts = [f"HTTP {response.status_code} {response.reason_phrase}"]
    if response.is_redirect:
        parts.append(f"set `url` after {response.headers.get('Location')}")
    if response.status_code in _HINTS:
        parts.append(_HINTS[response.status_code])
    if response.is_error and response.headers.get("Content-Type", "").startswith("text/plain"):
        parts.append(" ".join(response.text.split())[:_TEXT_CHARACTERS])
    return "; ".join(filter(None, parts))
