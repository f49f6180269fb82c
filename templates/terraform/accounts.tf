# Who may what, and no more: the table of docs/dataflow.md, which the tests compare with this file.
# No account has a key. What has no policy of its own is granted on the project.

resource "google_service_account" "worker" {
  account_id   = "analytics-worker"
  display_name = "Workers of the customer analytics job"

  depends_on = [google_project_service.needed]
}

resource "google_service_account" "launcher" {
  account_id   = "analytics-launcher"
  display_name = "Starts the customer analytics job and waits for it"

  depends_on = [google_project_service.needed]
}

resource "google_service_account" "builder" {
  account_id   = "analytics-builder"
  display_name = "Builds the image and the template of the customer analytics job"

  depends_on = [google_project_service.needed]
}

# The workers

resource "google_project_iam_member" "worker" {
  for_each = toset(["roles/bigquery.jobUser", "roles/dataflow.worker"])

  project = var.project
  role    = each.value
  member  = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker_output" {
  bucket = google_storage_bucket.output.name
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker_input" {
  bucket = google_storage_bucket.input.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.worker.member
}

resource "google_artifact_registry_repository_iam_member" "worker" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.worker.member
}

resource "google_bigquery_dataset_iam_member" "worker" {
  dataset_id = google_bigquery_dataset.analytics.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = google_service_account.worker.member
}

# The workflow, and what triggers it

resource "google_project_iam_member" "launcher" {
  for_each = toset([
    "roles/dataflow.developer",
    "roles/eventarc.eventReceiver",
    "roles/logging.logWriter",
    "roles/workflows.invoker",
    "roles/workflows.viewer",
  ])

  project = var.project
  role    = each.value
  member  = google_service_account.launcher.member
}

resource "google_service_account_iam_member" "launcher_worker" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.launcher.member
}

resource "google_storage_bucket_iam_member" "launcher_templates" {
  bucket = google_storage_bucket.templates.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.launcher.member
}

resource "google_storage_bucket_iam_member" "launcher_output" {
  bucket = google_storage_bucket.output.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.launcher.member
}

resource "google_secret_manager_secret_iam_member" "launcher_webhook" {
  secret_id = google_secret_manager_secret.webhook.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.launcher.member
}

# Cloud Build

resource "google_project_iam_member" "builder" {
  for_each = toset(["roles/dataflow.developer", "roles/logging.logWriter"])

  project = var.project
  role    = each.value
  member  = google_service_account.builder.member
}

resource "google_artifact_registry_repository_iam_member" "builder" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builder.member
}

resource "google_storage_bucket_iam_member" "builder" {
  bucket = google_storage_bucket.templates.name
  role   = "roles/storage.objectUser"
  member = google_service_account.builder.member
}

resource "google_service_account_iam_member" "builder_worker" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.builder.member
}

# Cloud Storage tells Eventarc of new files through Pub/Sub.

data "google_storage_project_service_account" "storage" {
  depends_on = [google_project_service.needed]
}

resource "google_project_iam_member" "storage_events" {
  project = var.project
  role    = "roles/pubsub.publisher"
  member  = data.google_storage_project_service_account.storage.member
}
