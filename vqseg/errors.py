"""Errors that tell a person what was given, what is expected, and the way out.

Every error meant for a person is a :class:`VQSegError`; the command line prints its one sentence and
exits with code 2, the window shows it as a notification. Messages never hold patient identifiers.
"""

__all__ = [
    "AnnotationError",
    "CheckpointError",
    "ConfigError",
    "DamagedRecordError",
    "DeviceError",
    "EngineError",
    "GeometryError",
    "PriorError",
    "ProjectError",
    "TrainingError",
    "VQSegError",
    "VolumeError",
]


class VQSegError(Exception):
    """Base of all errors that are shown to the person, in one sentence."""


class VolumeError(VQSegError):
    """A file or folder that cannot be read as a volume."""


class GeometryError(VQSegError):
    """Two volumes that should share shape and affine do not."""


class AnnotationError(VQSegError):
    """Labels or slice states that cannot be used as given."""


class ConfigError(VQSegError):
    """A setting outside its range or choices."""


class ProjectError(VQSegError):
    """A project folder that cannot be opened, or is in use."""


class DamagedRecordError(ProjectError):
    """A file of a project that is not what it was written as."""


class CheckpointError(VQSegError):
    """A checkpoint that is incomplete, damaged or made for another configuration."""


class PriorError(VQSegError):
    """A foundation model whose weights cannot be had or do not fit."""


class DeviceError(VQSegError):
    """A device that was asked for and is not there."""


class TrainingError(VQSegError):
    """A training that cannot go on."""


class EngineError(VQSegError):
    """The engine process could not start, or ended unexpectedly."""
