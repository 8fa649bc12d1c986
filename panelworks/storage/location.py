"""Locations: a local path or a place in a bucket, parsed once from the text that users, settings and records contain."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from panelworks.text import address_to_path, path_to_address, path_to_text, text_to_path

_S3_PREFIX: Final = "s3://"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""At least two characters before the colon: `C:` is a drive."""


@dataclass(frozen=True)
class Location:
    """Where a source lies or where results go. `str()` returns the text that the location was parsed from."""

    text: str
    scheme: str
    """In lower case, such as `s3`, `file` or `https`; empty for a plain path."""
    bucket: str = ""
    """Only in S3."""
    key: str = ""
    """Key or prefix in the bucket: everything after the bucket, including `#` and `?`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a path, a `file://` or an `s3://bucket/key` address; other addresses keep their scheme."""
        if text.startswith(_S3_PREFIX):
            bucket, _, key = text.removeprefix(_S3_PREFIX).partition("/")
            return cls(text, "s3", bucket, key)
        return cls(text, scheme_of(text) or "")

    @classmethod
    def of_path(cls, path: str | os.PathLike[str]) -> Self:
        """The location of a local path; its text can be stored in records, even if the path contains bytes that are not UTF-8."""
        return cls.parse(path_to_address(path))

    @classmethod
    def of_object(cls, bucket: str, key: str) -> Self:
        """The location of an object, or of the objects below a prefix."""
        return cls.parse(f"{_S3_PREFIX}{bucket}/{key}")

    def __str__(self) -> str:
        return self.text

    @property
    def is_in_bucket(self) -> bool:
        """Is this an `s3://` address?"""
        return self.text.startswith(_S3_PREFIX)

    @property
    def path(self) -> Path:
        """The local path, as written; only for locations that are not in a bucket."""
        return address_to_path(self.text)

    @property
    def absolute_path(self) -> Path:
        """The local path from the root, with `~` expanded."""
        return self.path.expanduser().absolute()

    @property
    def folder_and_name(self) -> tuple[str, str]:
        """The prefix of the object's folder and the object's name in it; only for locations in a bucket."""
        parent, _, name = self.key.rpartition("/")
        return parent, name

    def absolute(self) -> "Location":
        """The same place, independent of the working folder and of the locale."""
        return self if self.is_in_bucket else Location.of_path(self.absolute_path)

    def joined(self, name: str) -> "Location":
        """The location of `name` in this folder or below this prefix."""
        if self.scheme == "file":
            return Location.of_path(self.path / text_to_path(name))
        return Location.parse(f"{self.text.rstrip('/')}/{name}")

    def parent_and_name(self) -> "tuple[Location, str]":
        """The folder that contains this object, and the object's name in it."""
        if self.scheme == "file":
            return Location.of_path(self.path.parent), path_to_text(self.path.name)
        parent, _, name = self.text.rpartition("/")
        return Location.parse(parent), name


def scheme_of(text: str) -> str | None:
    """The scheme of an address in lower case; None for a path."""
    match = _SCHEME.match(text)
    return match[0][:-1].lower() if match else None
