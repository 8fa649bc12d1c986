"""Panelworks: comic pages in, checked and press-ready pages out.

from panelworks import enhance_picture
result = enhance_picture("page.png", out="enhanced")
print(result.route, result.master.uri)
"""

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
from panelworks.version import ENGINE_VERSION, __version__

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
