"""Panelworks enhances comic pages and checks the results.

from panelworks import enhance_picture
result = enhance_picture("page.png", out="enhanced")
print(result.route, result.master.uri)
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from panelworks.version import ENGINE_VERSION, __version__

if TYPE_CHECKING:
    from panelworks.domain.options import EnhanceOptions
    from panelworks.domain.result import ArtifactRef, PageResult
    from panelworks.errors import (
        Invalid,
        Misconfigured,
        ObjectMissing,
        PanelworksError,
        Rejected,
        ResourceExhausted,
        Transient,
        UnsafeSource,
    )
    from panelworks.page.direct import enhance_picture

__all__ = [
    "ENGINE_VERSION",
    "ArtifactRef",
    "EnhanceOptions",
    "Invalid",
    "Misconfigured",
    "ObjectMissing",
    "PageResult",
    "PanelworksError",
    "Rejected",
    "ResourceExhausted",
    "Transient",
    "UnsafeSource",
    "__version__",
    "enhance_picture",
]

_MODULE_OF_NAME: Final = {
    "EnhanceOptions": "panelworks.domain.options",
    "ArtifactRef": "panelworks.domain.result",
    "PageResult": "panelworks.domain.result",
    "enhance_picture": "panelworks.page.direct",
}
"""Modules of the public names that are not errors. A name is imported on first use: `import panelworks` is fast."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'panelworks' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF_NAME.get(name, "panelworks.errors")), name)


def __dir__() -> list[str]:
    return __all__
