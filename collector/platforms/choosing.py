"""Which jobs of a source are watched."""

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Choice:
    """Globs over all that a job may be called; `exclude` wins, and without `include` every job is wanted."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        """Nothing is left out, whatever it is called."""
        return not self.include and not self.exclude

    def takes(self, *names: str | None) -> bool:
        return (not self.include or _any_fits(names, self.include)) and not _any_fits(names, self.exclude)


def _any_fits(names: tuple[str | None, ...], globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for name in names if name for glob in globs)
