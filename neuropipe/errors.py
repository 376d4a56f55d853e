"""Every exception that neuropipe raises on purpose; each text says where, found, expected, do."""


class NeuropipeError(Exception):
    """Base of all errors that neuropipe raises on purpose."""

    exit_status = 1


class ConfigError(NeuropipeError, ValueError):
    """A configuration value is unknown, missing or out of range."""


class SchemaError(NeuropipeError, ValueError):
    """A recording lacks a node or variable, or one has wrong dims, units or dtype."""


class ManifestError(NeuropipeError, OSError):
    """A manifest is malformed, or a file that it names differs from what it promises."""


class FetchError(ManifestError):
    """A source that a manifest names could not be reached."""


class ReaderError(NeuropipeError, OSError):
    """A recording file is damaged, incomplete or not of the format that it claims."""


class DataError(NeuropipeError, ValueError):
    """The data are readable but unfit for the step asked of them (empty, NaN, too few)."""


class BackendUnavailable(NeuropipeError, RuntimeError):
    """A package, its weights or a device that was asked for is not there."""


class Interrupted(NeuropipeError):
    """The process was asked to end, and what a fit had reached is kept."""

    exit_status = 85  # as batch systems know a job that wants to be started again


class NotFittedError(NeuropipeError, ValueError, AttributeError):
    """An estimator was asked for results before `fit`."""


class ConvergenceWarning(UserWarning):
    """A fit stopped before it met its convergence criterion."""
