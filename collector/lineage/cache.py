"""Bytes made once per value, within a bound: SQL of a megabyte must not fill the memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Kept(Generic[K]):
    """What `make` gave for a key, the keys asked for last. `most` is in bytes, a key taken to weigh as much as its value."""

    def __init__(self, make: Callable[[K], bytes], most: int) -> None:
        self._make, self._most = make, most
        self._values: OrderedDict[K, bytes] = OrderedDict()
        self._weight = 0
        self._lock = Lock()

    def __call__(self, key: K) -> bytes:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
                return value
        value = self._make(key)
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._weight += _weight(value)
            while self._weight > self._most:
                _, dropped = self._values.popitem(last=False)
                self._weight -= _weight(dropped)
        return value


def _weight(value: bytes) -> int:
    return 2 * len(value) + 500
