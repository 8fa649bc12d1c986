"""ncnn's pairs of files: `name.param` says what the layers are, `name.bin` holds their numbers."""

import hashlib
from pathlib import Path


def is_pair(path: Path) -> bool:
    """Is this one of two such files, and is the other one beside it?"""
    return path.suffix.lower() in (".param", ".bin") and all(part.is_file() for part in pair_of(path))


def pair_of(path: Path) -> tuple[Path, Path]:
    """The `.param` and the `.bin` file."""
    return path.with_suffix(".param"), path.with_suffix(".bin")


def pair_bytes(path: Path) -> int:
    """Size of both."""
    return sum(part.stat().st_size for part in pair_of(path))


def pair_digest(path: Path) -> str:
    """SHA-256 over both, in hexadecimal."""
    digest = hashlib.sha256()
    for part in pair_of(path):
        digest.update(part.read_bytes())
    return digest.hexdigest()
