"""A source's load in words for people."""

from collector.platforms.base import Finding, Load


def finding(load: Load) -> Finding:
    """For `check`: whether the limit allows what is wished for, and what to do where it does not."""
    if load.is_reachable:
        return Finding("load", ok=True, detail=words(load))
    rarer = f"set {load.setting} to {load.reachable:.0f}s or longer, or " if load.setting else ""
    detail = f"{words(load)}; so every {load.reachable:.0f} s is the most that can be had"
    return Finding(
        "load", ok=False, detail=detail, remedy=f"{rarer}raise requests_per_minute, if the platform allows it"
    )


def words(load: Load) -> str:
    parts = [_counted(load.pages, "page"), _counted(load.reads, "single read")]
    cost = " and ".join(part for part in parts if part) or "nothing to ask"
    told = f"{load.runs} open runs: {cost} every {load.interval:.0f} s, {load.needed:.1f} requests a minute"
    return "; ".join(part for part in (told, _left(load), load.note) if part)


def _counted(number: float, what: str) -> str:
    return f"{number:.3g} {what}{'' if number == 1 else 's'}" if number else ""


def _left(load: Load) -> str:
    """What the limit leaves for the ends of runs."""
    if load.allowed is None:
        return "no limit of our own"
    limit = f"the limit is {load.allowed}"
    if not load.each_end or not load.is_reachable:
        return limit
    return f"{limit}, which leaves the ends of {(load.allowed - load.needed) * 60 / load.each_end:.0f} runs an hour"
