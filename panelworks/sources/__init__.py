"""Sources: bringing the bytes of a page here, from wherever they are named."""

from panelworks.sources.fetch import Fetched, fetch, inline

__all__ = ["Fetched", "fetch", "inline"]
