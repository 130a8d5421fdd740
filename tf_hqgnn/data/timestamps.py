"""Times as text: seconds since 1970, or ISO 8601, one by one or a whole column."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.types import Float64Array, Int64Array

# What both Arrow and Python read the same way; Python alone would also take 1_000, and both take nan and inf.
NUMBER = r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*"
ACCEPTED = "seconds since 1970, or ISO 8601 such as 2024-01-31, 2024-01-31 17:05:00 or 2024-01-31T17:05:00.5+01:00"

_TIME = r"(?P<hour>[0-9]{2})%s(?P<minute>[0-9]{2})(?:%s(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
_ZONE = r"(?: ?(?P<zone>[Zz]|UTC|(?P<sign>[+-])(?P<zone_hours>[0-9]{2})(?::?(?P<zone_minutes>[0-9]{2}))?))?"
_DATE = r"(?P<year>[0-9]{4})%s(?P<month>[0-9]{2})%s(?P<day>[0-9]{2})"
# RE2, which Arrow uses, reads these as Python does.
_EXTENDED = rf"\s*{_DATE % ('-', '-')}(?:[Tt ]{_TIME % (':', ':')}{_ZONE})?\s*".replace(r"\s", "[ \\t]")
# Without separators the day alone would be a number.
_BASIC = rf"\s*{_DATE % ('', '')}[Tt]{_TIME % ('', '')}{_ZONE}\s*".replace(r"\s", "[ \\t]")
_PATTERNS = (re.compile(_EXTENDED), re.compile(_BASIC))
_NUMBER = re.compile(NUMBER)
_FIELDS = ("year", "month", "day", "hour", "minute", "second", "fraction", "sign", "zone_hours", "zone_minutes")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def to_seconds(text: str) -> float:
    """Seconds since 1970 that a text stands for; NaN if it is neither a number nor a time. Without a zone it is UTC.

    >>> to_seconds("1704164645"), to_seconds("2024-01-02T03:04:05Z"), to_seconds("yesterday")
    (1704164645.0, 1704164645.0, nan)
    """
    if _NUMBER.fullmatch(text):
        return float(text)
    match = next((match for pattern in _PATTERNS if (match := pattern.fullmatch(text))), None)
    if match is None:
        return math.nan
    part = match.groupdict()
    year, month, day, hour, minute, second = (int(part[name] or 0) for name in _FIELDS[:6])
    zone_hours, zone_minutes = int(part["zone_hours"] or 0), int(part["zone_minutes"] or 0)
    if zone_hours > 23 or zone_minutes > 59:
        return math.nan
    try:
        whole = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return math.nan
    offset = timedelta(hours=zone_hours, minutes=zone_minutes) * (-1 if part["sign"] == "-" else 1)
    # In whole seconds first: Python knows no year before 1 or after 9999, where an offset may lead.
    seconds = (whole - _EPOCH) // timedelta(seconds=1) - offset // timedelta(seconds=1)
    fraction = part["fraction"] or ""
    return seconds + int(fraction) / 10 ** len(fraction) if fraction else float(seconds)


def column_to_seconds(column: pa.Array) -> Float64Array:
    """As `to_seconds`, of strings [n]; float64 [n], NaN for a null.

    >>> column_to_seconds(pa.array(["1970-01-02", None, "5"])).tolist()
    [86400.0, nan, 5.0]
    """
    seconds = _extended_to_seconds(column)
    # What the fast way doesn't know: numbers, the basic form, and what is no time at all.
    for row in np.flatnonzero(np.isnan(seconds)).tolist():
        text = column[row].as_py()
        if text is not None:
            seconds[row] = to_seconds(text)
    return seconds


def _extended_to_seconds(column: pa.Array) -> Float64Array:
    # RE2 has no fullmatch.
    parts = pc.extract_regex(column, pattern=f"^{_EXTENDED}$")
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = (
        pc.struct_field(parts, [parts.type.get_field_index(name)]) for name in _FIELDS
    )
    numbers = [_integers(part) for part in (year, month, day, hour, minute, second, zone_hours, zone_minutes)]
    years, months, days, hours, minutes, seconds, hours_off, minutes_off = numbers
    valid = np.asarray(pc.is_valid(parts)) & (years > 0) & (months > 0) & (months < 13) & (days > 0)
    safe_month = np.where(valid, (years - 1970) * 12 + months - 1, 0).astype("datetime64[M]")
    first = safe_month.astype("datetime64[D]").astype(np.int64)
    length = (safe_month + 1).astype("datetime64[D]").astype(np.int64) - first
    valid &= (days <= length) & (hours < 24) & (minutes < 60) & (seconds < 60) & (hours_off < 24) & (minutes_off < 60)
    offset = (hours_off * 3600 + minutes_off * 60) * np.where(np.asarray(pc.equal(sign, "-").fill_null(False)), -1, 1)
    whole = (first + days - 1) * 86400 + hours * 3600 + minutes * 60 + seconds - offset
    digits = np.asarray(pc.utf8_length(fraction).fill_null(0)).astype(np.int64)
    return np.where(valid, whole + _integers(fraction) / 10.0**digits, np.nan)


def _integers(text: pa.Array) -> Int64Array:
    """int64 [n] of digits; 0 where there are none."""
    empty = pc.equal(text, "").fill_null(True)
    return np.asarray(pc.if_else(empty, "0", text).cast(pa.int64()))
