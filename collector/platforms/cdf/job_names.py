"""The name of a transformation's job: the external id by which it was first known, whatever it is called later. Pure."""

from collections.abc import Callable, Iterable, Mapping

from collector import names
from collector.platforms.cdf.rows import JobRow

_KEPT = "name/"
"""How the keys of names begin in the memory of a source."""


class JobNames:
    """External ids by transformation id; the ledger remembers them, so that a rename never makes a new job."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._owner: dict[str, str] = {}

    def learn(self, memory: Mapping[str, str]) -> None:
        """What `memory` gave to be kept."""
        for key, name in memory.items():
            if key.startswith(_KEPT):
                one = key.removeprefix(_KEPT)
                self._first.setdefault(one, name)
                self._owner.setdefault(name, one)

    def memory(self, rows: Iterable[JobRow]) -> dict[str, str]:
        """To be kept of the transformations of these rows, as far as they have a name by now."""
        keys = {str(row.transformation_id) for row in rows}
        return {_KEPT + key: self._first[key] for key in sorted(keys & self._first.keys())}

    def contested(self, rows: Iterable[JobRow]) -> set[int]:
        """Transformations that were known first by the external id of another one in `rows`."""
        owners = {
            self._owner[row.external_id]
            for row in rows
            if row.external_id in self._owner and str(row.transformation_id) not in self._first
        }
        return {int(owner) for owner in owners if owner.isdecimal()}

    def name(self, row: JobRow, called_now: Callable[[int], str | None]) -> str:
        """The job name of a row.

        A transformation that was deleted and made again goes on under its name. One that was given the old external
        id of another, which `called_now` differently, gets its number for a name.
        """
        key = None if row.transformation_id is None else str(row.transformation_id)
        if key is None:
            return _name(row.external_id or f"of-job-{row.id}")
        if key not in self._first:
            self._first[key] = self._fresh(key, row.external_id, called_now)
            self._owner.setdefault(self._first[key], key)
        return _name(self._first[key])

    def _fresh(self, key: str, external_id: str | None, called_now: Callable[[int], str | None]) -> str:
        if external_id is None:
            return key
        owner = self._owner.get(external_id)
        other = called_now(int(owner)) if owner is not None and owner.isdecimal() else None
        return external_id if other in {None, external_id} else key


def _name(text: str) -> str:
    return names.dataset("transformation", text)
