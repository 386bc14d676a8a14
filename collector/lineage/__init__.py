"""From a transition to the bytes of its OpenLineage event; no I/O.

Import late: openlineage-python costs 0.6 s and 32 MiB.
"""
