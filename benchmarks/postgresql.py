"""A PostgreSQL server of the tests' own, on a Unix socket in a temporary folder."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from storage.database import upgrade_database

DEBIAN_PROGRAMS = "usr/lib/postgresql/*/bin/initdb"
"""Debian keeps the programs of the server out of the PATH."""
UNPRIVILEGED = "postgres"
TEMPLATE = "template_hepar"
OPTIONS = {
    # Nothing here outlives the tests.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "",
    # Far from UTC, and not by whole hours: a time that loses its zone is seen.
    "timezone": "Asia/Kathmandu",
}


def find_programs() -> Path | None:
    """Give the folder of initdb and postgres, or none."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    return next((path.parent for path in sorted(Path("/").glob(DEBIAN_PROGRAMS))), None)


@dataclass(kw_only=True)
class PostgreSql:
    """One running server."""

    programs: Path
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="hepar-postgresql-")))
    process: subprocess.Popen[bytes] | None = None
    _numbers: Any = field(default_factory=count)

    def start(self) -> None:
        """Make a cluster, and in it a database that has our tables."""
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            shutil.chown(self.folder, UNPRIVILEGED, UNPRIVILEGED)
        self.folder.chmod(0o755)
        data = str(self.folder / "data")
        make = ["initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--no-locale"]
        made = subprocess.run(
            [self.programs / make[0], *make[1:], f"--username={UNPRIVILEGED}", "--pgdata", data],
            **self._as_unprivileged(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        self.run()
        self._execute(f"CREATE DATABASE {TEMPLATE}")
        upgrade_database(self.url(TEMPLATE))

    def run(self) -> None:
        """Start the server on the cluster, and wait until it answers."""
        data = self.folder / "data"
        options = [text for name, value in OPTIONS.items() for text in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", data, "-k", self.folder, *options],
                **self._as_unprivileged(),
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                return self._execute("SELECT 1")
            except psycopg.OperationalError:
                log_text = (self.folder / "log").read_text()
                assert self.process.poll() is None, log_text
                assert time.monotonic() < deadline, log_text
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server; what it holds stays."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
            self.process = None

    def url(self, name: str) -> str:
        """Give the URL of a database; the password is not asked for."""
        return f"postgresql://{UNPRIVILEGED}:s3cret@/{name}?host={self.folder}"

    def new_database(self, *, template: str = TEMPLATE) -> str:
        """Make a database with our tables and no rows; `template0` makes an empty one."""
        name = f"hepar_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def _execute(self, statement: str) -> None:
        address = {"host": str(self.folder), "user": UNPRIVILEGED, "dbname": "postgres"}
        with psycopg.connect(**address, autocommit=True) as connection:
            connection.execute(statement)

    def _as_unprivileged(self) -> dict[str, Any]:
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        place = {"cwd": self.folder, "env": environment}
        if os.geteuid() != 0:
            return place
        return place | {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}
