"""Commands for the job database: its schema, backups."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from config.settings import Settings
from node.cli_options import ConfigOption, SetOption, load, tell_audit
from node.clock import utc_now
from node.console import out, progress_bar

if TYPE_CHECKING:
    from node.services import Services

db_app = typer.Typer(help="The job database: schema, backup, restore.", no_args_is_help=True)


@db_app.command("upgrade")
def upgrade_db(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Create the job database or bring its schema to this version."""
    from storage.database import upgrade_database

    settings = load(config, overrides).settings
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    upgrade_database(settings.database_url)
    out.print("The job database has the schema of this version.")


@db_app.command("backup")
def back_up_db(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write a checked backup of the job database, also while the node runs.

    It has the rows only: instances and results are files in the data folder.
    """
    from node.services import open_services
    from storage.backup import back_up
    from storage.states import AuditEvent

    settings = load(config, overrides).settings
    with progress_bar("hepar db backup") as progress:
        progress("copying and checking", 0.0)
        back_up(settings.database_url, target)
    with open_services(settings) as services:
        made = {"action": "back up the database", "to": str(target)}
        tell_audit(services, AuditEvent.DATA_EXPORTED, made)
    out.print(f"{target} has {target.stat().st_size / 1e6:.1f} MB and has been checked.")


@db_app.command("restore")
def restore_db(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `hepar db backup`.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Put series and jobs that are there now aside.")
    ] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Make the job database what it was when a backup was made; the node must not run."""
    from node.health import DEAD_AFTER
    from node.services import open_services
    from storage.backup import restore
    from storage.files import FileStore
    from storage.states import AuditEvent

    settings = load(config, overrides).settings
    kept = _kept_path(settings, utc_now())
    with progress_bar("hepar db restore") as progress:
        progress("checking and restoring", 0.0)
        keeps = restore(
            settings.database_url,
            source,
            kept=kept,
            replace=replace,
            alive_since=utc_now() - DEAD_AFTER,
            last_job_id=max(FileStore(settings.data_dir).result_ids(), default=0),
        )
        progress("looking for files without a row", 0.8)
        with open_services(settings) as services:
            done = {"action": "restore the database", "from": str(source), "kept": str(kept)}
            tell_audit(services, AuditEvent.ACTION, done)
            unknown = _count_unknown(services)
    out.print(f"The job database is that of {source}, with the schema of this version.")
    if keeps:
        out.print(f"What it held before is kept in {kept}.")
    if unknown:
        out.print(
            f"{sum(unknown.values())} instances of {len(unknown)} series lie in "
            f"{settings.data_dir / 'instances'} without a row: they came after the backup. The "
            "node takes them up by itself within a day; sent again, they are not stored twice."
        )
        for series_uid, count in sorted(unknown.items()):
            out.print(f"  {series_uid}: {count}")


def _kept_path(settings: Settings, now: datetime) -> Path:
    """Give a name for what is replaced, beside an SQLite file, else in the data folder."""
    from storage.database import read_url

    url = read_url(settings.database_url)
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    if url.drivername == "sqlite" and url.database:
        return Path(f"{url.database}.replaced-{stamp}")
    return settings.data_dir / f"postgresql.replaced-{stamp}.dump"


def _count_unknown(services: "Services") -> dict[str, int]:
    """Count the files of instances that have no row, by series."""
    found = {}
    for series_uid, folders in services.files.instance_folders().items():
        known = services.catalog.all_paths(series_uid)
        paths = (services.files.relative(path) for one in folders for path in one.iterdir())
        if count := sum(path not in known for path in paths):
            found[series_uid] = count
    return found
