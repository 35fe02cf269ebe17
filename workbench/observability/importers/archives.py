"""A zip archive of JSON documents, deflated or compressed with zstd, read one member at a time and never more of it than it may hold.

The standard library of Python 3.11 reads the directory of an archive with zstd members (method 93) but not the members; Arrow, which
the log lake stands on, unpacks them. A member is unpacked up to the size that the directory declares and not a byte further, the sizes are
looked at before anything is unpacked, and each member's checksum is compared.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from workbench.errors import RecordRefused, UsageError
from workbench.observability.importers import fields

LARGEST_MEMBER = 256 * 1024 * 1024
"""Bytes, unpacked. A larger member is refused."""
_LARGEST_ARCHIVE = 64 * 1024**3
_ZSTD = 93
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
_ENCRYPTED = 1
_METHODS = {1: "shrink", 9: "deflate64", 12: "bzip2", 14: "lzma", 98: "ppmd"}


class Archive:
    """An open archive. Where a name stands in it twice, the later member counts, as a file that was written on says."""

    def __init__(self, file: BinaryIO, zipped: zipfile.ZipFile) -> None:
        self._file = file
        self._zip = zipped
        self._members = zipped.NameToInfo

    @property
    def names(self) -> tuple[str, ...]:
        """The members, in the order of the directory, each once."""
        return tuple(self._members)

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            RecordRefused: when it is too large, damaged, encrypted, or packed in a way that is not read here.
        """
        member = self._members[name]
        if member.file_size > LARGEST_MEMBER:
            fields.refuse("too_large", "sample", f"{member.file_size:,} bytes unpacked", f"at most {LARGEST_MEMBER:,}")
        if member.flag_bits & _ENCRYPTED:
            fields.refuse("encrypted", "sample", "an encrypted member", "an archive without a password")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, _ZSTD):
            method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
            fields.refuse("packed_otherwise", "sample", f"packed with {method}", "deflate or zstd", "write the log anew")
        try:
            content = self._unzstd(member) if member.compress_type == _ZSTD else self._inflated(member)
        except (
            OSError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
            struct.error,
            NotImplementedError,
            ValueError,
            pa.ArrowException,
        ) as fault:
            raise RecordRefused(
                "sample", reason="damaged", seen="its member of the archive is damaged", needed="a whole archive"
            ) from fault
        if len(content) != member.file_size:
            fields.refuse("damaged", "sample", "its member of the archive is not as large as declared", "a whole archive")
        return content

    def _inflated(self, member: zipfile.ZipInfo) -> bytes:
        with self._zip.open(member) as unpacked:
            return unpacked.read(member.file_size + 1)

    def _unzstd(self, member: zipfile.ZipInfo) -> bytes:
        self._file.seek(member.header_offset)
        magic, name_length, extra_length = _LOCAL_HEADER.unpack(self._file.read(_LOCAL_HEADER.size))
        if magic != _LOCAL_MAGIC:
            raise zipfile.BadZipFile(member.filename)
        self._file.seek(name_length + extra_length, 1)
        packed = self._file.read(member.compress_size)
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as unpacked:
            content: bytes = unpacked.read(member.file_size + 1)
        if zlib.crc32(content) != member.CRC:
            raise zipfile.BadZipFile(member.filename)
        return content


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The archive, open.

    Raises:
        UsageError: when the file is no zip archive, or its members would be unpacked to more than 64 GiB.
    """
    with path.open("rb") as file:
        try:
            zipped = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, UnicodeDecodeError) as error:
            needed, step = "a whole zip archive", "was it copied to its end?"
            raise UsageError(str(path), seen="the zip archive cannot be opened", needed=needed, next_step=step) from error
        with zipped:
            size = sum(member.file_size for member in zipped.infolist())
            if size > _LARGEST_ARCHIVE:
                raise UsageError(str(path), seen=f"unpacks to {size:,} bytes", needed=f"at most {_LARGEST_ARCHIVE:,}")
            yield Archive(file, zipped)
