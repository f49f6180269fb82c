output "input_bucket" {
  description = "Where the files of events go."
  value       = google_storage_bucket.input.url
}

output "warehouse" {
  description = "The warehouse's folder."
  value       = local.warehouse
}

output "dataset" {
  description = "The BigQuery dataset."
  value       = "${var.project}.${google_bigquery_dataset.analytics.dataset_id}"
}

output "template_bucket" {
  description = "_BUCKET of cloudbuild.yaml, without gs://."
  value       = google_storage_bucket.templates.name
}

output "builder" {
  description = "Account of Cloud Build, for gcloud builds submit --service-account."
  value       = google_service_account.builder.id
}

output "worker" {
  description = "Account of the workers."
  value       = google_service_account.worker.email
}

output "workflow" {
  description = "Name of the workflow, for gcloud workflows run."
  value       = google_workflows_workflow.customer_analytics.name
}

output "webhook_secret" {
  description = "The secret that takes the webhook's address."
  value       = google_secret_manager_secret.webhook.secret_id
}
