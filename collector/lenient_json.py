"""JSON of other programs, which is not always strict JSON."""

import json
import re
from math import isfinite
from typing import Any

import orjson

_HALF = re.compile("[\ud800-\udfff]")
_LONGEST_INT = 20


def parsed(content: bytes) -> Any:
    """The JSON value, None where it is none (or is null). What other programs write and strict JSON is not does no harm: half
    of a surrogate pair becomes U+FFFD, NaN and numbers that no double or 64 bits hold become None.
    """
    try:
        return orjson.loads(content)
    except ValueError:
        return _mended(content)


def _mended(content: bytes) -> Any:
    try:
        found = json.loads(content, parse_constant=_no_number, parse_float=_float, parse_int=_int)
        return _whole(found)
    except (ValueError, RecursionError):
        return None


def _no_number(_: str) -> None:
    return None


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if isfinite(number) else None


def _int(digits: str) -> int | None:
    number = int(digits) if len(digits) <= _LONGEST_INT else None
    return number if number is not None and -(2**63) <= number < 2**64 else None


def _whole(value: Any) -> Any:
    """Without halves of surrogate pairs."""
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_whole(key): _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value
