"""Addresses on Marquez' own web pages."""

from urllib.parse import quote


def web_address(base: str, kind: str, namespace: str, name: str) -> str:
    """The page with the graph around a `job` or `dataset`, and its runs. `base` is where the web pages are."""
    return f"{base}/lineage/{kind}/{quote(namespace, safe='')}/{quote(name, safe='')}"
