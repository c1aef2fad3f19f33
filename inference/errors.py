"""Errors of the inference package.

InferenceError
|-- ModelPackageError
|-- BackendError
`-- LiverNotFound
"""


class InferenceError(Exception):
    """The segmentation could not be done."""


class ModelPackageError(InferenceError):
    """A model package is missing, damaged or says something that this code cannot do."""


class BackendError(InferenceError):
    """No back end can run this model here."""


class LiverNotFound(InferenceError):
    """The model found no liver in the scan."""
