"""What an id may be, whichever file it comes from: 1 to 4,096 bytes of UTF-8, not only blanks, without NUL."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.types import BoolArray, ObjectArray

# An id beyond it is a file that was taken for something else.
MAX_ID_BYTES = 4096

MISSING = "missing"
TOO_LONG = "too long"
WITH_NUL = "NUL character"

_BLANKS = " \t\r\n\v\f"
_ODD = (
    (r"^[ \t]|[ \t]$", "blanks around them", "ids are taken as they are"),
    (r"[\r\n]", "line breaks", "check the quotes: one that isn't closed joins lines"),
)


def id_fault(value: str) -> str | None:
    r"""What is wrong with an id: MISSING, TOO_LONG, WITH_NUL, or None.

    >>> id_fault("u1"), id_fault("  "), id_fault("é" * 2049), id_fault("u\0")
    (None, 'missing', 'too long', 'NUL character')
    """
    if not value.strip(_BLANKS):
        return MISSING
    if len(value) > MAX_ID_BYTES // 4 and len(value.encode()) > MAX_ID_BYTES:
        return TOO_LONG
    return WITH_NUL if "\0" in value else None


def id_faults(ids: pa.Array) -> dict[str, BoolArray]:
    """As `id_fault`, of a column of strings or binary [n]: by fault, bool [n]; a null is missing.

    >>> {fault: mask.tolist() for fault, mask in id_faults(pa.array(["u", None])).items()}
    {'missing': [False, True], 'too long': [False, False], 'NUL character': [False, False]}
    """
    masks = {
        MISSING: pc.match_substring_regex(ids, pattern=f"^[{_BLANKS}]*$").fill_null(True),
        TOO_LONG: pc.greater(pc.binary_length(ids), MAX_ID_BYTES).fill_null(False),
        WITH_NUL: pc.match_substring(ids, pattern="\0").fill_null(False),
    }
    return {fault: mask.to_numpy(zero_copy_only=False) for fault, mask in masks.items()}


def odd_ids(column: str, ids: ObjectArray) -> tuple[str, ...]:
    r"""What is odd about distinct ids and yet allowed, a sentence for each oddity.

    >>> import numpy as np
    >>> odd_ids("user_id", np.array(["u", " u"], object))
    ("values of user_id with blanks around them: 1, such as ' u'; ids are taken as they are",)
    """
    strings = pa.array(ids, pa.utf8())
    notes = []
    for pattern, what, advice in _ODD:
        found = strings.filter(pc.match_substring_regex(strings, pattern=pattern))
        if len(found):
            notes.append(f"values of {column} with {what}: {len(found):,}, such as {found[0].as_py()[:60]!r}; {advice}")
    return tuple(notes)
