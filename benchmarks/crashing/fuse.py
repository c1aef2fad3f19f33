"""What kills: wraps functions as their modules are imported, and waits to be armed.

A file in the folder that ``HEPAR_BENCHMARK_FUSES`` names arms a point: the next process that comes
there moves it away, so that it kills once, and sends SIGKILL to itself or to all processes of the
node. The code of the node knows nothing of it.
"""

import functools
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import benchmarks
from benchmarks.crashing.points import INNER, POINTS, Moment, Point

FOLDER = "HEPAR_BENCHMARK_FUSES"
SPENT = ".spent"
SHORTER: dict[str, dict[str, Any]] = {
    "node.supervisor": {"MAX_PAUSE_S": 0.5},
    "node.prover": {"ASK_AGAIN": timedelta(seconds=5)},
}
"""Pauses that only a process that is killed all the time would meet in full length."""


@dataclass(frozen=True, kw_only=True)
class Fuse:
    """How a point kills."""

    victims: Literal["process", "all"]
    hit: int = 1
    """Which time that a process comes there."""

    def arm(self, folder: Path, point: Point) -> None:
        """Wait at a point from now on."""
        (folder / point.key).write_text(json.dumps(asdict(self)), encoding="utf-8")


def spent(folder: Path) -> set[str]:
    """Give the keys of the points that have killed."""
    return {path.name.removesuffix(SPENT) for path in folder.glob(f"*{SPENT}")}


def disarm(folder: Path) -> None:
    """Take all fuses away."""
    for path in folder.iterdir():
        path.unlink(missing_ok=True)


def environ(folder: Path) -> dict[str, str]:
    """Give what makes the processes of a node watch a folder for fuses, with shorter pauses."""
    root = Path(benchmarks.__file__).parent
    path = os.pathsep.join([str(root / "crashing" / "site"), str(root.parent)])
    return {FOLDER: str(folder), "PYTHONPATH": path}


def install() -> None:
    """Wrap the functions of all points, those of other modules when these are imported."""
    watch = _Watch(Path(os.environ[FOLDER]))
    for name in sys.modules.keys() & watch.functions.keys():
        watch.wrap_all(sys.modules[name])
    sys.meta_path.insert(0, _Finder(watch))


class _Watch:
    """Knows which function of a point a thread is in, and kills where that was asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hits: Counter[str] = Counter()
        self._inside = threading.local()
        self._outer = {(point.module, point.function) for point in POINTS}
        self.functions: dict[str, set[str]] = defaultdict(set)
        for module, function in (*self._outer, *INNER.values()):
            self.functions[module].add(function)

    def wrap_all(self, module: ModuleType) -> None:
        """Watch the functions of a module."""
        for name in self.functions[module.__name__]:
            *owner, last = name.split(".")
            holder = functools.reduce(getattr, owner, module)
            setattr(holder, last, self._wrap(module.__name__, name, getattr(holder, last)))

    def _wrap(self, module: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Watch a function: as one of a point, as a call that such a one makes, or as both."""
        outer = (module, name) in self._outer
        inner = next((key for key, place in INNER.items() if place == (module, name)), "")

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            stack = self._stack()
            if not outer and not stack:
                return function(*args, **kwargs)
            key = name if outer else f"{stack[-1]}-{inner}"
            self._reach(key, "before")
            if outer:
                stack.append(name)
            try:
                result = function(*args, **kwargs)
            finally:
                if outer:
                    stack.pop()
            # A claim that found nothing is not worth a kill.
            if result is not None or "claim" not in name:
                self._reach(key, "after")
            return result

        return watched

    def _stack(self) -> list[str]:
        stack: list[str] = self._inside.__dict__.setdefault("stack", [])
        return stack

    def _reach(self, name: str, moment: Moment) -> None:
        path = self._folder / f"{name}-{moment}"
        with suppress(FileNotFoundError):
            fuse = Fuse(**json.loads(path.read_text(encoding="utf-8")))
            self._hits[path.name] += 1
            if self._hits[path.name] < fuse.hit:
                return
            # Not by pathlib, whose rename is watched.
            os.rename(path, f"{path}{SPENT}")  # noqa: PTH104
            if fuse.victims == "all":
                os.killpg(os.getpgid(0), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the usual finders find, and changes what was loaded."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Give the usual spec of a module, with a loader that wraps functions."""
        if fullname not in {*self._watch.functions, *SHORTER}:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            # A loader is changed for this one module only, which mypy takes for a mistake.
            spec.loader.exec_module = functools.partial(  # type: ignore[method-assign]
                self._load, spec.loader.exec_module
            )
        return spec

    def _load(self, exec_module: Callable[[ModuleType], None], module: ModuleType) -> None:
        exec_module(module)
        if module.__name__ in self._watch.functions:
            self._watch.wrap_all(module)
        for name, value in SHORTER.get(module.__name__, {}).items():
            setattr(module, name, value)
