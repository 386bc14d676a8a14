"""Benchmarks: `make bench`. Every figure is a ratio within one run on one machine; nothing is asserted on the clock."""

import os

# what is measured has its modules compiled, as the image has, whatever the environment says
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
