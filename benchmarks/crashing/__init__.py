"""Processes of the node that kill themselves at chosen points of the unchanged code."""
