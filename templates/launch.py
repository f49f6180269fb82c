# ruff: noqa: INP001 - a program of its own, in no package
"""What the flex template's launcher starts: the pipeline, its workers in this same image.

The launcher expects a job in any case: where nothing is new, it gets one that does nothing.
"""

import os
import sys

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from pipelines import customer_analytics
from pipelines.options import parse_arguments

arguments = [f"--sdk_container_image={os.environ['WORKER_IMAGE']}", *sys.argv[1:]]
code = customer_analytics.main(arguments)
if code == 0:
    options = PipelineOptions(parse_arguments(arguments)[1], runner="DataflowRunner")
    location = options.view_as(GoogleCloudOptions).template_location
    if location and not FileSystems.exists(location):
        pipeline = beam.Pipeline(options=options)
        _ = pipeline | "Nothing new" >> beam.Create([None])
        pipeline.run()
sys.exit(code)
