"""Errors of the training package.

TrainingError
|-- ExperimentError
|-- DataSetError
`-- ExportError
"""


class TrainingError(Exception):
    """Training, evaluation or export could not be done."""


class ExperimentError(TrainingError):
    """An experiment file is missing or wrong."""


class DataSetError(TrainingError):
    """The training data are missing or damaged."""


class ExportError(TrainingError):
    """The exported network does not agree with the trained one."""
