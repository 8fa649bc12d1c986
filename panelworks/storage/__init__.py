"""Storage: folders of named objects (local or S3) and the content-addressed store above them."""

from panelworks.storage.content import ContentStore
from panelworks.storage.folder import ObjectFolder, check_places, open_folder, sweep_places

__all__ = ["ContentStore", "ObjectFolder", "check_places", "open_folder", "sweep_places"]
