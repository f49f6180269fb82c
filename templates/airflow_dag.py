# ruff: noqa: INP001 - a file for a DAGs folder, in no package
"""Runs the customer analytics job each night, for a team that has Airflow.

Set the Airflow variables named below, and let the connection's account launch (docs/dataflow.md).
Where nothing is new, nothing is computed. The job's name is a lock: Dataflow runs one job of a name
at a time, so whatever else starts it, a second one is refused, and tried again here.
"""

from __future__ import annotations

import datetime as dt

from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk import DAG

with DAG(
    dag_id="customer_analytics",
    description="Clickstream to sessions, users, funnels and segments, published together.",
    schedule="0 4 * * *",
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,  # each run reads the whole input, so days that were missed need no run
    max_active_runs=1,
    tags=["customer-analytics"],
) as dag:
    DataflowStartFlexTemplateOperator(
        task_id="run",
        project_id="{{ var.value.customer_analytics_project }}",
        location="{{ var.value.customer_analytics_region }}",
        body={
            "launchParameter": {
                "jobName": "customer-analytics",
                "containerSpecGcsPath": "{{ var.value.customer_analytics_template }}",
                "parameters": {
                    "input": "{{ var.value.customer_analytics_input }}",
                    "output": "{{ var.value.customer_analytics_output }}",
                    "bigquery_dataset": "{{ var.value.customer_analytics_dataset }}",
                    "location": "{{ var.value.customer_analytics_region }}",
                    "if_changed": "true",
                },
                "environment": {
                    "serviceAccountEmail": "{{ var.value.customer_analytics_worker }}",
                    "stagingLocation": "{{ var.value.customer_analytics_bucket }}/staging",
                    "tempLocation": "{{ var.value.customer_analytics_bucket }}/temp",
                    "subnetwork": "{{ var.value.customer_analytics_subnetwork }}",
                    "ipConfiguration": "WORKER_IP_PRIVATE",
                    "additionalUserLabels": {"application": "customer-analytics"},
                },
            }
        },
        append_job_name=False,
        deferrable=True,  # waits without a worker of Airflow's
        retries=2,
        retry_delay=dt.timedelta(minutes=30),
        execution_timeout=dt.timedelta(hours=6),
    )
