"""Folders that one process at a time writes: those of runs and of studies."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from igr.errors import UserError, remedy

LOCK = ".lock"
# The seconds after which a folder is another's: those who only look hold it for a moment.
_PATIENCE = 0.2
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Holds a folder, made if need be, against every other process.

    The system frees the lock of a process that ends, however it ends.

    Arguments:
        folder: The folder.
        what: Whose it is, in a word.

    Raises:
        UserError: Another process holds it, or it cannot be written.
    """
    lock = FileLock(folder / LOCK, timeout=_PATIENCE, poll_interval=_PATIENCE / 10)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"expected a {what} folder that is free; got {folder}, which another process is "
            "using; wait for it to end, or choose another folder with --out"
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, NotImplementedError) or error.errno in _WITHOUT_LOCKS:
            raise UserError(
                f"expected a folder where files can be locked, for the {what}; got {folder}, whose file "
                f"system has no locks ({error}), so two processes could not be kept apart; have them turned "
                "on (on NFS by its lock service), or choose another folder with --out"
            ) from error
        raise unwritable(folder, what, error) from error
    try:
        yield
    finally:
        lock.release()


def unwritable(folder: Path, what: str, error: OSError) -> UserError:
    """The error for a folder that does not take what has to be written."""
    return UserError(
        f"expected a folder that can be written for the {what}; got {folder} "
        f"({error.strerror or error}); {remedy(error)}, or choose another with --out"
    )
