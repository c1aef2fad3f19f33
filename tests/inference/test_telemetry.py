"""The engines tell their makers nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = {"onnx_backend": "OnnxEngine(device='cpu', ", "openvino_backend": "OpenVinoEngine("}
LOAD = """
import sys
from pathlib import Path
from inference.{backend} import *
from models import __file__ as models
network = Path(models).parent / "hepar-liver-ct" / "locator.onnx"
{engine}precision="fp32", threads=1).load(network)
assert "openvino_telemetry.main" not in sys.modules
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_engine_leaves_no_identity_and_no_reports_to_be_sent(tmp_path: Path, backend: str):
    """Each writes a random identity of the machine beside what it is going to report."""
    subprocess.run(
        [sys.executable, "-c", LOAD.format(backend=backend, engine=BACKENDS[backend])],
        env={**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        check=True,
        timeout=120,
    )
    assert list(tmp_path.rglob("*")) == []
