"""The models that a node has: those that ship with it, those in its data folder, that in use.

An added package lies in ``<data_dir>/models`` under NAME@VERSION, and never changes: other content
needs another version. So all processes and machines that share the data folder see the same.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from config import Settings
from config.inference import InferenceSettings
from inference.errors import ModelPackageError
from inference.identity import find_settings, identify
from inference.manifest import (
    MANIFEST_NAME,
    ModelIdentity,
    ModelPackage,
    find_package,
    list_packages,
    package_folders,
    read_package,
    verify_package,
)
from node.clock import utc_now
from node.errors import ModelRefused
from node.services import Services
from storage.records import JobRecord, NewJob

_CARD_NAME = "MODEL_CARD.md"


class ModelOrigin(StrEnum):
    """Where a package comes from."""

    SHIPPED = "shipped"
    """It came with the node."""
    ADDED = "added"
    """It lies in the data folder."""
    SETTINGS = "settings"
    """Only `inference.model` names its folder."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A package that jobs can be made for."""

    package: ModelPackage
    origin: ModelOrigin
    in_use: bool
    """Whether it is what `inference.model` means."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """All packages that a node has."""

    usable: list[Model]
    problems: list[str]
    """What cannot be used, and why."""


def located(settings: Settings) -> InferenceSettings:
    """Give the settings of the model with the folder of its package in the place of its name.

    Raises
    ------
    ModelPackageError
        There is no such package, or its manifest is wrong.
    """
    package = find_package(settings.inference.model, settings.model_folders)
    return settings.inference.model_copy(update={"model": str(package.folder)})


def new_job(model: ModelIdentity) -> NewJob:
    """Say for which model a job is to be made."""
    return NewJob(model_name=model.name, model_version=model.version, model_digest=model.digest)


def survey_models(settings: Settings) -> Models:
    """List the packages that a node has, those that ship with it first."""
    problems = []
    packages = list_packages(settings.model_folders)
    used = None
    try:
        used = find_package(settings.inference.model, settings.model_folders)
    except ModelPackageError as error:
        problems.append(f"inference.model: {error}")
    if used is not None and used.folder not in [one.folder for one in packages]:
        packages.append(used)
    read = {one.folder for one in packages}
    for found in map(package_folders, settings.model_folders):
        problems += [_why_unusable(folder) for folder in found if folder not in read]
    usable = [
        Model(
            package=one,
            origin=_origin(one, settings),
            in_use=used is not None and one.folder == used.folder,
        )
        for one in packages
    ]
    return Models(usable=usable, problems=problems)


def _why_unusable(folder: Path) -> str:
    try:
        read_package(folder)
    except ModelPackageError as error:
        return str(error)
    return f"{folder} has just been added"


def _origin(package: ModelPackage, settings: Settings) -> ModelOrigin:
    if package.is_shipped:
        return ModelOrigin.SHIPPED
    return ModelOrigin.ADDED if _is_own(package, settings) else ModelOrigin.SETTINGS


def _is_own(package: ModelPackage, settings: Settings) -> bool:
    return package.folder.parent in settings.model_folders


def read_card(package: ModelPackage) -> str:
    """Give the model card of a package, as Markdown; empty where it has none."""
    try:
        return (package.folder / _CARD_NAME).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def add_model(services: Services, folder: Path) -> ModelPackage:
    """Check a package and copy it into the data folder; one that the node has already is left.

    Returns
    -------
    ModelPackage
        The one that the node has.

    Raises
    ------
    ModelPackageError
        It is no package, or not what its manifest describes.
    ModelRefused
        There is another one of its name and version, or its name would no longer say which.
    storage.errors.DiskShort, storage.errors.FileStoreError
        It cannot be written.
    """
    settings = services.settings
    package = read_package(folder)
    verify_package(package)
    known = list_packages(settings.model_folders)
    for one in known:
        if one.identity.digest == package.identity.digest:
            return one
    namesakes = [one for one in known if one.manifest.name == package.manifest.name]
    if any(one.reference == package.reference for one in namesakes):
        raise _other_content(package)
    if (
        settings.inference.model == package.manifest.name
        and namesakes
        and not namesakes[0].is_shipped
    ):
        raise ModelRefused(
            f"with {package.reference} beside {namesakes[0].reference}, inference.model would no "
            f"longer say which of them is meant; make it {namesakes[0].reference!r} first"
        )
    target = settings.model_folders[0] / package.reference
    named = [MANIFEST_NAME, *(weights.file for weights in package.manifest.weight_files)]
    card = [_CARD_NAME] if (folder / _CARD_NAME).is_file() else []
    if not services.files.copy_folder([folder / name for name in (*named, *card)], target):
        raise _other_content(package)
    return read_package(target)


def _other_content(package: ModelPackage) -> ModelRefused:
    return ModelRefused(
        f"there is another {package.reference}, with other content; give this one another version "
        f"in its {MANIFEST_NAME}"
    )


def remove_model(services: Services, reference: str) -> ModelPackage:
    """Remove a package from the data folder.

    Raises
    ------
    ModelPackageError
        There is none, or several are meant.
    ModelRefused
        It does not lie in the data folder, is in use, or jobs wait for it.
    storage.errors.FileStoreError
        It cannot be removed.
    """
    settings = services.settings
    package = find_package(reference, settings.model_folders)
    if not _is_own(package, settings):
        raise ModelRefused(f"{package.folder} is no added model, so it is not removed")
    if any(one.in_use and one.package == package for one in survey_models(settings).usable):
        raise ModelRefused(f"{package.reference} is in use: inference.model names it")
    waiting = sum(
        count
        for digest, count in services.jobs.count_open_by_model().items()
        if _folder_of(digest, settings) == package.folder
    )
    if waiting:
        raise ModelRefused(
            f"{waiting} jobs wait for {package.reference} or run with it; let them end, or cancel "
            "them with `hepar jobs cancel`"
        )
    services.files.remove_folder(package.folder)
    return package


def _folder_of(digest: str, settings: Settings) -> Path | None:
    found = find_settings(digest, settings.inference, settings.model_folders)
    return None if found is None else find_package(found.model, settings.model_folders).folder


def reprocess(services: Services, job_id: int, model: str | None, actor: str) -> JobRecord:
    """Have another model process the series of a job; give the job of that model.

    What marks tumor, and whether candidates are filtered, is as the settings say.

    Parameters
    ----------
    services
        The node's.
    job_id
        Of the series.
    model
        Name, or name and version, of a model that the node has; none means the one in use.
    actor
        Who asks.

    Raises
    ------
    ModelPackageError
        There is no such model, or several are meant.
    ModelRefused
        It lies in a folder that the node's workers do not know.
    storage.errors.StorageError
        As of `Jobs.reprocess`.
    """
    settings = services.settings
    package = find_package(model or settings.inference.model, settings.model_folders)
    wanted = settings.inference.model_copy(update={"model": str(package.folder)})
    identity = identify(wanted)
    if find_settings(identity.digest, settings.inference, settings.model_folders) is None:
        raise ModelRefused(
            f"the node does not have {package.folder}; add it with `hepar model add "
            f"{package.folder}`"
        )
    return services.jobs.reprocess(job_id, new_job(identity), actor, utc_now())
