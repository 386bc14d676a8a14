"""Bytes made once per value, within a bound: SQL of a megabyte must not fill the memory."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import TypeVar

from cachetools import LRUCache, cached

K = TypeVar("K", bound=Hashable)


def bytes_cache(most: int) -> Callable[[Callable[[K], bytes]], Callable[[K], bytes]]:
    """Decorates a function: its last results are cached. `most` is in bytes, a key counts as much as its value."""
    cache: LRUCache[object, bytes] = LRUCache(most, getsizeof=lambda value: 2 * len(value) + 500)
    return cached(cache, lock=Lock())
