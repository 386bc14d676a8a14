"""Cognite Data Fusion: transformation jobs as runs, workflow executions as their parents where asked for."""

from collector.platforms.cdf.adapter import CdfPlatform, create

__all__ = ["CdfPlatform", "create"]
