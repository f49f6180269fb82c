resource "google_monitoring_notification_channel" "email" {
  display_name = "Customer analytics"
  type         = "email"
  labels       = { email_address = var.alarm_email }

  depends_on = [google_project_service.needed]
}

# What the heartbeat says while the published state is young enough; it is silent otherwise.
resource "google_logging_metric" "fresh" {
  name        = "${local.application}-fresh"
  description = "Heartbeats that found a published state younger than stale_after_hours."
  filter      = <<-EOT
    resource.type="workflows.googleapis.com/Workflow"
    resource.labels.workflow_id="${google_workflows_workflow.heartbeat.name}"
    jsonPayload.customer_analytics="fresh"
  EOT

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }
}

resource "google_monitoring_alert_policy" "stale" {
  display_name          = "Customer analytics: no published run"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]
  user_labels           = local.labels

  conditions {
    display_name = "No heartbeat found a published run of the last ${var.stale_after_hours} hours"

    condition_absent {
      filter   = "resource.type = \"workflows.googleapis.com/Workflow\" AND metric.type = \"logging.googleapis.com/user/${google_logging_metric.fresh.name}\""
      duration = "10800s"

      aggregations {
        alignment_period     = "3600s"
        per_series_aligner   = "ALIGN_COUNT"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "docs/deployment.md, No published run. Either no run was published, or nothing looks any more: scheduler, workflow and project are to be looked at."
  }
}

resource "google_monitoring_alert_policy" "job_failed" {
  display_name          = "Customer analytics: a job failed"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]
  user_labels           = local.labels

  conditions {
    display_name = "A Dataflow job failed"

    condition_threshold {
      filter          = "resource.type = \"dataflow_job\" AND resource.labels.job_name = \"${local.application}\" AND metric.type = \"dataflow.googleapis.com/job/is_failed\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "docs/deployment.md, A job failed. The tables are those of the run before."
  }
}

resource "google_monitoring_alert_policy" "workflow_failed" {
  display_name          = "Customer analytics: the workflow failed"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]
  user_labels           = local.labels

  conditions {
    display_name = "An execution failed"

    condition_threshold {
      filter          = "resource.type = \"workflows.googleapis.com/Workflow\" AND resource.labels.workflow_id = starts_with(\"${local.application}\") AND metric.type = \"workflows.googleapis.com/finished_execution_count\" AND metric.labels.status = \"FAILED\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_DELTA"
      }
    }
  }

  documentation {
    content = "docs/deployment.md, The workflow failed. Its execution says at which step."
  }
}

resource "google_billing_budget" "monthly" {
  count = var.billing_account == null ? 0 : 1

  billing_account = var.billing_account
  display_name    = "Customer analytics"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = tostring(floor(var.monthly_budget))
    }
  }

  threshold_rules {
    threshold_percent = 0.5
  }

  threshold_rules {
    threshold_percent = 1.0
  }

  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }

  all_updates_rule {
    monitoring_notification_channels = [google_monitoring_notification_channel.email.id]
  }

  depends_on = [google_project_service.needed]
}

data "google_project" "this" {
  project_id = var.project
}
