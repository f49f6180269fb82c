resource "google_workflows_workflow" "customer_analytics" {
  name                = local.application
  region              = var.region
  description         = "Runs the customer analytics job where its input has changed, one job at a time."
  service_account     = google_service_account.launcher.id
  source_contents     = file("${path.module}/../workflow.yaml")
  call_log_level      = "LOG_NONE" # a call may hold the webhook's address
  deletion_protection = false
  labels              = local.labels

  user_env_vars = {
    BIGQUERY_DATASET  = "${var.project}.${google_bigquery_dataset.analytics.dataset_id}"
    INPUT             = join(",", [for glob in split(",", var.input) : "${google_storage_bucket.input.url}/${glob}"])
    MACHINE_TYPE      = var.machine_type
    MAX_WORKERS       = tostring(var.max_workers)
    OUTPUT            = local.warehouse
    STAGING           = google_storage_bucket.output.url
    SUBNETWORK        = "regions/${var.region}/subnetworks/${google_compute_subnetwork.workers.name}"
    TEMPLATE          = coalesce(var.template, "${google_storage_bucket.templates.url}/templates/customer-analytics-current.json")
    WEBHOOK           = google_secret_manager_secret.webhook.secret_id
    WORKER            = google_service_account.worker.email
  }

  depends_on = [google_project_iam_member.launcher]
}

resource "google_workflows_workflow" "heartbeat" {
  name                = "${local.application}-heartbeat"
  region              = var.region
  description         = "Tells that the published state is young enough."
  service_account     = google_service_account.launcher.id
  source_contents     = file("${path.module}/../heartbeat.yaml")
  call_log_level      = "LOG_NONE"
  deletion_protection = false
  labels              = local.labels

  user_env_vars = {
    MANIFEST          = "https://storage.googleapis.com/storage/v1/b/${google_storage_bucket.output.name}/o/warehouse%2Fmanifest.json"
    STALE_AFTER_HOURS = tostring(var.stale_after_hours)
  }

  depends_on = [google_project_iam_member.launcher]
}

# The webhook's address is added by hand, so that neither the state nor a plan has it: README.md.
resource "google_secret_manager_secret" "webhook" {
  secret_id = "${local.application}-webhook"
  labels    = local.labels

  replication {
    auto {}
  }

  depends_on = [google_project_service.needed]
}

resource "google_cloud_scheduler_job" "run" {
  name        = "${local.application}-run"
  region      = var.region
  description = "Runs the customer analytics job."
  schedule    = var.schedule
  time_zone   = "Etc/UTC"

  http_target {
    uri         = "https://workflowexecutions.googleapis.com/v1/${google_workflows_workflow.customer_analytics.id}/executions"
    http_method = "POST"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode({ argument = jsonencode({ by = "schedule" }) }))

    oauth_token {
      service_account_email = google_service_account.launcher.email
    }
  }

  retry_config {
    retry_count = 3
  }
}

resource "google_cloud_scheduler_job" "heartbeat" {
  name        = "${local.application}-heartbeat"
  region      = var.region
  description = "Tells how old the published state is: the alarm is raised where nothing is heard."
  schedule    = "30 * * * *"
  time_zone   = "Etc/UTC"

  http_target {
    uri         = "https://workflowexecutions.googleapis.com/v1/${google_workflows_workflow.heartbeat.id}/executions"
    http_method = "POST"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode({}))

    oauth_token {
      service_account_email = google_service_account.launcher.email
    }
  }

  retry_config {
    retry_count = 3
  }
}

resource "google_eventarc_trigger" "new_file" {
  name            = "${local.application}-new-file"
  location        = var.region
  service_account = google_service_account.launcher.email
  labels          = local.labels

  matching_criteria {
    attribute = "type"
    value     = "google.cloud.storage.object.v1.finalized"
  }

  matching_criteria {
    attribute = "bucket"
    value     = google_storage_bucket.input.name
  }

  destination {
    workflow = google_workflows_workflow.customer_analytics.id
  }

  depends_on = [
    google_project_iam_member.launcher,
    google_project_iam_member.storage_events,
  ]
}
