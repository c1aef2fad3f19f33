"""Volumes in, segmentation and findings out; knows no DICOM dataset."""
