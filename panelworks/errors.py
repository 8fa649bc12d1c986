"""Everything that can go wrong, split by who acts.

    PanelworksError
    ├── Rejected           the input is bad: nobody retries
    │   └── UnsafeSource   the input names a place that we do not read
    ├── Transient          the world is in the way (network, S3 5xx): try again later
    ├── ResourceExhausted  too little memory: smaller tiles, then the CPU
    ├── Invalid            the enhanced picture failed validation: take the fallback
    ├── ObjectMissing      the store lost an object that a record names: compute it again
    └── Misconfigured      a person must act: the message says what to set
        └── UnknownName    a model, preset or action that does not exist: whoever asked must act

Each carries a `code` that programs can test and a message of one plain sentence for people.
"""

from typing import ClassVar, Final, Literal

Fault = Literal["input", "temporary", "service"]
"""Who acts on an error: whoever sent the input; nobody, the same call may succeed later; whoever runs the service."""


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
    """The input names an address, file or bucket that this door does not open."""


class Transient(PanelworksError):
    """The same call may succeed later."""

    fault = "temporary"


class ResourceExhausted(PanelworksError):
    """The device ran out of memory even with the smallest tiles."""

    fault = "temporary"


class Invalid(PanelworksError):
    """The network's output is not a faithful picture."""


class ObjectMissing(PanelworksError):
    """A stored object that a record refers to is gone."""


NOT_SET_UP: Final = "The server is not set up for this; its log says more."
"""What outsiders are told of a `Misconfigured`, whose message may name a folder."""


class Misconfigured(PanelworksError):
    """Settings or installation must change before this can work."""


class UnknownName(Misconfigured):
    """There is no model, preset or provider of the name that was given; the message says which there are."""

    fault = "input"


_EXTRAS: Final = {
    **dict.fromkeys(("torch", "torchvision", "spandrel", "pynvml"), "torch"),
    **dict.fromkeys(("libarchive", "lxml", "natsort", "pandas", "pypdfium2"), "books"),
    **dict.fromkeys(("boto3", "botocore"), "s3"),
    "redis": "redis",
    **dict.fromkeys(("fastapi", "prefect", "prometheus_client", "uvicorn"), "pipeline"),
}
"""The extra of the package that installs an optional dependency, by its importable name."""


def missing_extra(module: str | None) -> Misconfigured | None:
    """The error for a module that cannot be imported; None when no extra installs it."""
    package = (module or "").partition(".")[0]
    extra = _EXTRAS.get(package)
    if extra is None:
        return None
    return Misconfigured(
        "missing_extra",
        f"This needs the package {package}, which is not installed: pip install 'panelworks[{extra}]'.",
    )


def expected(error: BaseException) -> PanelworksError | None:
    """The error that an exception is or stands for, such as a missing optional dependency; None where it is a fault of ours."""
    if isinstance(error, PanelworksError):
        return error
    return missing_extra(error.name) if isinstance(error, ModuleNotFoundError) else None


def unforeseen(error: BaseException) -> PanelworksError:
    """The error for an exception that no part of the library expects."""
    return PanelworksError("internal", f"Something unforeseen happened ({type(error).__name__}).")


NOT_READABLE: Final = "not_readable"
"""Code of files and folders that exist and cannot be read."""
