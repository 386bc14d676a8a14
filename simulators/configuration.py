"""How the collector is configured for the simulators: their addresses, project, client, secret and tokens. Pure."""

from collections.abc import Mapping
from typing import Any

import yaml

NAMES = {"cdf": "plant-a", "wetransform": "customers", "dataprep": "prep"}
"""The names of the sources by platform."""
JOBS = {
    "cdf": "sap_work_orders_clean",
    "wetransform": "3f0c1f52-6a51-4f0e-9d0a-5a1d6f8f2c01",
    "dataprep": "1",
}
"""A job of each platform that `trigger` can start."""


def source(platform: str, url: str) -> dict[str, Any]:
    """An item of `sources` for a simulator with its defaults."""
    named = {"name": NAMES[platform], "platform": platform, "base_url": url}
    match platform:
        case "cdf":
            client = {"client_id": "collector", "client_secret": "simulated-secret"}
            auth = {"provider": "oidc", "token_url": f"{url}/oauth2/token", **client}
            return {**named, "project": "plant-a", "auth": auth}
        case "wetransform":
            return {**named, "tenant": "acme", "token": "wetransform-token"}
    return {**named, "workspace": "1", "token": "dataprep-token"}


def printed(urls: Mapping[str, str]) -> str:
    """A configuration for the simulators at these addresses, by platform (or `marquez`), as YAML with comments."""
    lines = [f"# {name} simulator on {url} (control: {url}/_control/expected)" for name, url in urls.items()]
    platforms = {name: url for name, url in urls.items() if name in NAMES}
    if platforms:
        lines += ["# A configuration for it; save it all as lineage-collector.yaml, then in another terminal:"]
        lines += ["#   lineage-collector check", "#   lineage-collector run"]
        lines += [f"#   lineage-collector trigger {NAMES[name]} {JOBS[name]} --wait" for name in platforms]
        sinks = [{"name": "file", "type": "file", "path": "events.ndjson"}]
        document: dict[str, Any] = {"sources": [_polled(*each) for each in platforms.items()], "sinks": sinks}
    else:
        lines += ["# A sink for it, for a configuration that has sources (`simulate all` prints some):"]
        document = {"sinks": [{"name": name, "type": name, "url": url} for name, url in urls.items()]}
    return "\n".join([*lines, yaml.safe_dump(document, sort_keys=False)])


def _polled(platform: str, url: str) -> dict[str, Any]:
    """Often, as its runs are short. Runs of wetransform are found by its list of transformations alone."""
    finding = {"discover": True, "requests_per_minute": 600} if platform == "wetransform" else {}
    return {**source(platform, url), "poll_interval": "5s", **finding}
