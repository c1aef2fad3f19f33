"""`hepar demo`, as the README promises it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.timeout(600)


def test_the_demo_runs_the_whole_loop(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "node", "demo", "--out", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    dice = dict(re.findall(r"(liver with lesions|tumor)\s+(0\.\d+)", done.stdout))
    assert float(dice["liver with lesions"]) > 0.9
    assert float(dice["tumor"]) > 0.3
    assert "In the archive:" in done.stdout
    assert len(list((tmp_path / "demo" / "archive").glob("*.dcm"))) == 3
    with Image.open(tmp_path / "demo" / "preview.png") as picture:
        assert picture.width > 1000
