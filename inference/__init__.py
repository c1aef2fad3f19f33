"""Volumes in, segmentation and findings out; knows no DICOM dataset."""

import os
import sys

# ONNX Runtime and OpenVINO report their use to their makers from the moment of their import, before
# anything of theirs could be called. Nothing leaves the machine: the one reads this variable, the
# other finds its reporter missing and does without.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
