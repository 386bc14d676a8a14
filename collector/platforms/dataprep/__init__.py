"""Google Cloud Dataprep by Trifacta (v4 API)."""

from collector.platforms.dataprep.adapter import create

__all__ = ["create"]
