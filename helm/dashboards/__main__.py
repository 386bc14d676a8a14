"""Write the dashboards into the chart."""

import json
from pathlib import Path

from helm.dashboards import collector, runs
from helm.dashboards.grafana import Dashboard

FOLDER = Path(__file__).parents[1] / "lineage-collector" / "dashboards"


def made() -> dict[str, Dashboard]:
    """By name of the file."""
    uids = {"Platform runs": "lineage-platform-runs", "Lineage collector": "lineage-collector"}
    of_runs, of_collector = uids.items()
    return {
        "lineage-collector.json": collector.dashboard(dict([of_runs])),
        "platform-runs.json": runs.dashboard(dict([of_collector])),
    }


def written(dashboard: Dashboard) -> str:
    return json.dumps(dashboard.json(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, dashboard in made().items():
        (FOLDER / name).write_text(written(dashboard), encoding="utf-8")
