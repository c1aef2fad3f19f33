"""Imported by each interpreter that has this folder in PYTHONPATH, before anything else."""

from benchmarks.crashing.fuse import install

install()
