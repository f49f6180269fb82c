# ruff: noqa: INP001 - a program of its own, in no package
"""What the flex template's launcher starts: the pipeline, its workers in this same image."""

import os
import sys

from pipelines import customer_analytics

sys.exit(
    customer_analytics.main([f"--sdk_container_image={os.environ['WORKER_IMAGE']}", *sys.argv[1:]])
)
