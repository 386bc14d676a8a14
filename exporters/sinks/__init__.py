"""The sinks: one module or package per kind of target."""
