"""Archives: reading the members of a book, whatever it is packed in, safely and in order."""

from panelworks.archives.member import Archive, Member, Refusal
from panelworks.archives.opening import open_archive

__all__ = ["Archive", "Member", "Refusal", "open_archive"]
