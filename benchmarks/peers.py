"""The node, dcmtk's storescp and Orthanc as processes to talk to and to kill.

For the acceptance tests and for the benchmarks that kill.
"""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config import Settings, load_settings
from inference.phantom import Phantom
from node.health import Verdict, check_running
from node.roles import Role
from node.services import Services, open_services
from storage.records import JobRecord
from storage.states import FINAL_STATES, JobState

SENDER = "SCANNER"


def find_free_port() -> int:
    """Give a TCP port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 90.0) -> Any:
    """Wait for a true value and give it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


@dataclass(kw_only=True)
class NodeProcess:
    """`hepar serve` as a process of its own."""

    folder: Path
    port: int
    toml: str
    environ: Mapping[str, str] = field(default_factory=dict)
    """More of the environment of its processes."""
    roles: Sequence[str] = tuple(Role)
    process: subprocess.Popen[bytes] | None = None
    last_seen_job: int = 0
    """Only jobs after it are looked at."""
    _services: Services | None = field(default=None)

    @property
    def config(self) -> Path:
        """Its settings file."""
        return self.folder / "hepar.toml"

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return load_settings(self.config, environ={}).settings

    @property
    def services(self) -> Services:
        """Its stores, opened in this process."""
        if self._services is None:
            self._services = open_services(self.settings)
        return self._services

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        wait_until(self.is_ready, f"the node is ready, see {self.folder / 'node.log'}")

    def launch(self) -> None:
        """Start it."""
        self.config.write_text(self.toml, encoding="utf-8")
        command = [sys.executable, "-m", "node", "serve", "--config", str(self.config)]
        command += ["--roles", ",".join(self.roles)]
        with (self.folder / "node.log").open("ab") as log:
            # A session of its own, so that all of its processes can be killed together.
            self.process = subprocess.Popen(
                command,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environ},
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Say whether its roles run; a supervisor that has ended is an error."""
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "node.log").read_text()
        verdicts = {check.name: check.verdict for check in check_running(self.settings)}
        return all(verdicts.get(f"role {role}") is Verdict.GOOD for role in self.roles)

    def close(self) -> None:
        """Stop the node if it runs, and let go of its database."""
        if self.process is not None:
            self.stop()
        if self._services is not None:
            self._services.database.close()
            self._services = None

    def stop(self) -> int:
        """Ask it to stop, wait, and give its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.process = None
        return code

    def kill(self, role: str) -> int:
        """Kill -9 the process of a role; give its pid."""
        pid = self.pid(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    def pid(self, role: str) -> int:
        """Give the process of a role."""
        beats = [b for b in self.services.heartbeats.list_beats() if b.role == role]
        return max(beats, key=lambda beat: beat.beat_at).pid

    def job(self) -> JobRecord | None:
        """Give the newest job."""
        jobs = self.services.jobs.list_jobs(limit=1)
        return jobs[0] if jobs and jobs[0].id > self.last_seen_job else None

    def begin_anew(self) -> None:
        """Look only at jobs that are made from now on."""
        newest = self.job()
        self.last_seen_job = newest.id if newest else self.last_seen_job

    def wait_for_state(self, *states: JobState, timeout_s: float = 120.0) -> JobRecord:
        """Wait until the newest job has one of these states; another final one is an error."""

        def reached() -> JobRecord | None:
            job = self.job()
            if job is None:
                return None
            if job.state in states:
                return job
            assert job.state not in FINAL_STATES, f"{job.state}: {job.reason}\n" + self.log
            return None

        return wait_until(reached, f"a job in {states}\n{self.log}", timeout_s)

    @property
    def log(self) -> str:
        """What all of its processes have written."""
        return (self.folder / "node.log").read_text(encoding="utf-8")

    def hepar(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run another command of the program with the same settings; it is given some input."""
        command = [sys.executable, "-m", "node", *arguments, "--config", str(self.config)]
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=120
        )


NODE_TOML = """\
data_dir = "data"
[node]
port = {port}
[peers.scanner]
ae_title = "SCANNER"
host = "127.0.0.1"
roles = ["source"]
[receive]
quiet_s = 1.0
max_wait_s = 2.0
min_free_bytes = 1_000_000
[queue]
lease_s = 2.0
[delivery]
first_retry_s = 0.5
max_retry_s = 1.0
[web]
port = {web_port}
[log]
format = "json"
"""

DESTINATION_TOML = """\
[peers.archive]
ae_title = "{ae_title}"
host = "127.0.0.1"
port = {port}
roles = ["destination"]
"""


@dataclass(kw_only=True)
class StoreScp:
    """dcmtk's storescp as the archive."""

    program: str
    folder: Path
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def toml(self) -> str:
        """What makes it a destination of the node."""
        return DESTINATION_TOML.format(ae_title="ARCHIVE", port=self.port)

    def start(self) -> None:
        """Start it; its folder keeps what is stored."""
        self.folder.mkdir(exist_ok=True)
        command = [self.program, *self.options, "-aet", "ARCHIVE", "-od", str(self.folder)]
        command.append(str(self.port))
        self.process = subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"})

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def files(self) -> list[Path]:
        """Give what was stored."""
        return sorted(self.folder.iterdir())


DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(kw_only=True)
class Orthanc:
    """Orthanc as the archive: DICOM in, REST out."""

    program: str
    folder: Path
    port: int
    http_port: int
    plugins: tuple[Path, ...] = ()
    password: str = ""
    """Of the user "hepar"; none means that everybody may do everything."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def toml(self) -> str:
        """What makes it a destination of the node."""
        return DESTINATION_TOML.format(ae_title="ORTHANC", port=self.port)

    @property
    def root(self) -> str:
        """The root of the REST interface."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def url(self) -> str:
        """The root of DICOMweb."""
        return f"{self.root}/dicom-web"

    def start(self) -> None:
        """Start it and wait until it answers; its folder keeps what is stored."""
        self.folder.mkdir(exist_ok=True)
        configuration = {
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": bool(self.password),
            "RegisteredUsers": {"hepar": self.password} if self.password else {},
            "Plugins": [str(path) for path in self.plugins],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen([self.program, str(path)], stdout=log, stderr=log)
        wait_until(self._answers, "Orthanc answers")

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except urllib.error.URLError:
            return False

    def get(self, path: str) -> bytes:
        """Ask the REST interface."""
        return self._ask("GET", path)

    def store(self, path: Path) -> None:
        """Put an instance into the archive."""
        self._ask("POST", "/instances", path.read_bytes())

    def know(self, node_port: int) -> None:
        """Make the node a modality, to which storage commitment is reported."""
        entry = {
            "AET": "HEPAR",
            "Host": "127.0.0.1",
            "Port": node_port,
            "AllowStorageCommitment": True,
            "AllowFind": True,
            "AllowGet": True,
        }
        self._ask("PUT", "/modalities/hepar", json.dumps(entry).encode())

    def delete(self, modality: str) -> None:
        """Delete what has this modality."""
        for identifier in json.loads(self.get("/instances")):
            tags = json.loads(self.get(f"/instances/{identifier}/simplified-tags"))
            if tags["Modality"] == modality:
                self._ask("DELETE", f"/instances/{identifier}")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.root + path, data=body, method=method)
        user = base64.b64encode(f"hepar:{self.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {user}")
        with urllib.request.urlopen(request) as answer:
            return bytes(answer.read())

    def instances(self) -> dict[str, bytes]:
        """Give the stored files by modality."""
        found = {}
        for identifier in json.loads(self.get("/instances")):
            tags = json.loads(self.get(f"/instances/{identifier}/simplified-tags"))
            assert tags["Modality"] not in found, "stored twice"
            found[tags["Modality"]] = self.get(f"/instances/{identifier}/file")
        return found

    def take_all(self) -> list[str]:
        """Delete what is stored, and give the SOP Instance UIDs."""
        found = []
        for identifier in json.loads(self.get("/instances")):
            found.append(json.loads(self.get(f"/instances/{identifier}"))["MainDicomTags"])
            self._ask("DELETE", f"/instances/{identifier}")
        return [tags["SOPInstanceUID"] for tags in found]


@dataclass(frozen=True, kw_only=True)
class SyntheticCt:
    """A phantom and its files."""

    phantom: Phantom
    folder: Path
    paths: list[Path]
