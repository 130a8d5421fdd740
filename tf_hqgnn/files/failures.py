"""Explain failures of the machine in one line, such as a full disk or a folder that can't be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# TensorFlow, Arrow and Beam hand on the text alone.
_FULL_TEXTS = {os.strerror(number): number for number in _FULL}


def is_disk_full(error: BaseException) -> bool:
    """Whether an error comes from a disk without space, a quota, or a limit of a file's size.

    >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device")), is_disk_full(ValueError("no"))
    (True, False)
    """
    return any(_number(one) is not None for one in _chain(error))


def explain_failure(error: BaseException) -> str | None:
    """Explain a failure to the user in one line; None means that the program is at fault.

    >>> explain_failure(PermissionError(13, "Permission denied", "/out"))
    '/out: permission denied'
    """
    if is_disk_full(error):
        number = next(number for one in _chain(error) if (number := _number(one)) is not None)
        path = next((one.filename for one in _chain(error) if isinstance(one, OSError) and one.filename), None)
        what = os.strerror(number).lower()
        where = f"{path}: " if path else ""
        return f"{where}{what}; free some space, or write elsewhere, and run the same command again"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    return None


def _number(error: BaseException) -> int | None:
    """The error number, if it says that there is no space."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return error.errno
    return next((number for text, number in _FULL_TEXTS.items() if text in str(error)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__
