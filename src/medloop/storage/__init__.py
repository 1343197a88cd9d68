"""Files, archives and addresses: written atomically, unpacked within limits, fetched only from allowed hosts."""

from medloop.storage.archives import is_archive, unpack
from medloop.storage.atomic import (
    atomic_file,
    atomic_folder,
    file_lock,
    read_json,
    sha256_bytes,
    sha256_file,
    write_json,
    write_text,
)
from medloop.storage.limits import Limits, OnBytes
from medloop.storage.places import fetch, list_uris, open_uri, place, walk_files
from medloop.storage.tables import read_parquet, write_parquet

__all__ = [
    "Limits",
    "OnBytes",
    "atomic_file",
    "atomic_folder",
    "fetch",
    "file_lock",
    "is_archive",
    "list_uris",
    "open_uri",
    "place",
    "read_json",
    "read_parquet",
    "sha256_bytes",
    "sha256_file",
    "unpack",
    "walk_files",
    "write_json",
    "write_parquet",
    "write_text",
]
