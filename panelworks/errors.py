"""The errors of Panelworks, divided by who must act.

    PanelworksError
    ├── Rejected           the input is invalid: do not retry
    │   └── UnsafeSource   the input names a source that is not permitted
    ├── Transient          an external system failed (network, S3 5xx): retry later
    ├── ResourceExhausted  out of memory: use smaller tiles, then the CPU
    ├── Invalid            the enhanced picture failed validation: use a fallback
    ├── ObjectMissing      the store lost an object that a record refers to: compute it again
    └── Misconfigured      an operator must act: the message says what to set
        └── UnknownName    the request names an unknown model, preset or action: its sender must act

Each error has a `code` for programs and a message of one plain sentence for people.
"""

from typing import ClassVar, Final, Literal

Fault = Literal["input", "temporary", "service"]
"""Who must act on an error: `input`, the sender; `temporary`, nobody (a retry may succeed); `service`, the operator."""


class PanelworksError(Exception):
    """Base of all errors. `code` is stable; the message is one plain sentence."""

    fault: ClassVar[Fault] = "service"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class Rejected(PanelworksError):
    """The input cannot be processed, now or later."""

    fault = "input"


class UnsafeSource(Rejected):
    """The input names an address, file or bucket that its sender may not read."""


class Transient(PanelworksError):
    """The same call may succeed later."""

    fault = "temporary"


class ResourceExhausted(PanelworksError):
    """The device ran out of memory, even with the smallest tiles."""

    fault = "temporary"


class Invalid(PanelworksError):
    """The network's output is not a faithful picture."""


class ObjectMissing(PanelworksError):
    """The store no longer has an object that a record refers to."""


MISCONFIGURED_MESSAGE: Final = "The server is not set up for this; its log says more."
"""Shown to clients instead of the message of a `Misconfigured`, which may contain paths of the server."""
_PUBLIC_MESSAGES: Final = {
    "weights_missing": "The weights of this network are not installed on the server; its log says which file is missing.",
}
"""Messages for clients, by code, where more can be said."""


def misconfigured_message(code: str) -> str:
    """What a client reads about a `Misconfigured` with this code."""
    return _PUBLIC_MESSAGES.get(code, MISCONFIGURED_MESSAGE)


class Misconfigured(PanelworksError):
    """The settings or the installation must change before this can work."""


class UnknownName(Misconfigured):
    """The requested model, preset or provider does not exist. The message lists those that do."""

    fault = "input"


_EXTRAS: Final = {
    **dict.fromkeys(("torch", "torchvision", "spandrel", "pynvml"), "torch"),
    **dict.fromkeys(("libarchive", "lxml", "natsort", "pandas", "pypdfium2"), "books"),
    **dict.fromkeys(("boto3", "botocore"), "s3"),
    "redis": "redis",
    **dict.fromkeys(("av", "imageio"), "video"),
    "opentelemetry": "otel",
    **dict.fromkeys(("fastapi", "prefect", "prometheus_client", "uvicorn"), "pipeline"),
}
"""The extra that installs an optional dependency, by the dependency's import name."""


def missing_extra_error(module: str | None) -> Misconfigured | None:
    """Return the error for a module that cannot be imported; None if no extra installs it."""
    package = (module or "").partition(".")[0]
    extra = _EXTRAS.get(package)
    if extra is None:
        return None
    return Misconfigured(
        "missing_extra",
        f"This needs the package {package}, which is not installed: pip install 'panelworks[{extra}]'.",
    )


def as_known_error(error: BaseException) -> PanelworksError | None:
    """Convert an exception to an error of this module, such as a missing optional dependency; None for an unexpected
    one."""
    if isinstance(error, PanelworksError):
        return error
    return missing_extra_error(error.name) if isinstance(error, ModuleNotFoundError) else None


def as_unexpected_error(error: BaseException) -> PanelworksError:
    """Return the error to report for an unexpected exception."""
    return PanelworksError("internal", f"An unexpected error occurred ({type(error).__name__}).")


NOT_READABLE: Final = "not_readable"
"""Error code for files and folders that exist but cannot be read."""
