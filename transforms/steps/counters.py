"""Namespaces of the metrics that the engine counts; docs/metrics.md promises them to dashboards.

They are fixed texts: Beam's own choice, the class with its module, changes whenever code moves.
"""

from __future__ import annotations

from typing import Final

from transforms.shuffle import partition

PARSE: Final = "ParseRanges"
SHUFFLE: Final = partition.METRICS_NAMESPACE
SESSIONS: Final = "ProcessSessionShards"
USERS: Final = "CombineUsers"

NAMESPACES: Final = (PARSE, SHUFFLE, SESSIONS, USERS)
