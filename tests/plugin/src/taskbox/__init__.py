"""A platform and a sink for lineage-collector that another package brings: the example of CONTRIBUTING.md."""
