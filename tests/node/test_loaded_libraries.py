"""What a process loads before it has anything to do: memory and start of each role and command."""

import json
import subprocess
import sys

import pytest

ENGINES = {"highdicom", "onnxruntime", "openvino", "scipy", "SimpleITK", "skimage", "sklearn"}
LOAD = "import json, sys, {}; print(json.dumps(list(sys.modules)))"


@pytest.mark.parametrize(
    ("modules", "needless"),
    [
        (
            "node.scp, node.scheduler, node.web.server",
            {*ENGINES, "alembic", "httpx", "rich", "torch"},
        ),
        ("node.cli", {*ENGINES, "alembic", "httpx", "pydicom", "sqlalchemy", "torch"}),
        ("node.worker", {"alembic", "openvino", "SimpleITK", "sklearn", "httpx", "torch"}),
    ],
)
def test_nothing_needless_is_loaded(modules: str, needless: set[str]):
    done = subprocess.run(
        [sys.executable, "-c", LOAD.format(modules)], capture_output=True, text=True, check=True
    )
    assert not needless & set(json.loads(done.stdout))
