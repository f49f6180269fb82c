"""Where tables go: staged files, a local folder, a bucket, BigQuery."""
