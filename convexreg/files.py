"""Writing files so that nothing is ever left half-written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to, renamed once all is well and removed otherwise.

    A link stays one, and an existing file keeps its permissions.

    :raises FileNotFoundError: the folder does not exist.
    :raises OSError: it cannot be written to.
    """
    path = path.resolve() if path.is_symlink() else path
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the output folder {path.parent} does not exist; create it first")
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-")
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        mode = path.stat().st_mode if path.exists() else 0o666 & ~umask
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink()
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write all or nothing, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
