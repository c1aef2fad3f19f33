"""Errors of the inference package.

InferenceError
|-- ModelPackageError
|-- BackendError
|-- LiverNotFound
|-- ClusteringError
`-- RegistrationError
"""


class InferenceError(Exception):
    """The segmentation could not be done."""


class ModelPackageError(InferenceError):
    """A model package is missing, damaged or says something that this code cannot do."""


class BackendError(InferenceError):
    """No back end can run this model here."""


class LiverNotFound(InferenceError):
    """The model found no liver in the scan."""


class ClusteringError(InferenceError):
    """The CT numbers of the liver cannot be clustered as asked."""


class RegistrationError(InferenceError):
    """A scan could not be brought to the grid of another."""
