"""`python -m collector` is `lineage-collector`."""

from collector.app.cli import main

main()
