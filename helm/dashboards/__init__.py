"""The Grafana dashboards of the chart. `python -m helm.dashboards` writes their JSON into it."""
