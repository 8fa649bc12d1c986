"""Everything that can go wrong, split by who acts.

    PanelworksError
    ├── Rejected           the input is bad: nobody retries
    │   └── UnsafeSource   the input names a place that we do not read
    ├── Transient          the world is in the way (network, S3 5xx): try again later
    ├── ResourceExhausted  too little memory: smaller tiles, then the CPU
    ├── Invalid            the enhanced picture failed validation: take the fallback
    ├── ObjectMissing      the store lost an object that a record names: compute it again
    └── Misconfigured      a person must act: the message says what to set

Each carries a `code` that programs can test and a message of one plain sentence for people.
"""


class PanelworksError(Exception):
    """Base of all errors. `code` is stable; the message is one plain sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class Rejected(PanelworksError):
    """The input cannot be processed, now or later."""


class UnsafeSource(Rejected):
    """The input names an address, file or bucket that this door does not open."""


class Transient(PanelworksError):
    """The same call may succeed later."""


class ResourceExhausted(PanelworksError):
    """The device ran out of memory even with the smallest tiles."""


class Invalid(PanelworksError):
    """The network's output is not a faithful picture."""


class ObjectMissing(PanelworksError):
    """A stored object that a record refers to is gone."""


class Misconfigured(PanelworksError):
    """Settings or installation must change before this can work."""
