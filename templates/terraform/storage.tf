locals {
  application = "customer-analytics"
  warehouse   = "${google_storage_bucket.output.url}/warehouse"
  labels      = { application = local.application }
}

resource "google_storage_bucket" "input" {
  name                        = "${var.project}-events"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = local.labels

  # A file that was replaced by a wrong one can be put back.
  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 30
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_storage_bucket" "output" {
  name                        = "${var.project}-analytics"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = local.labels

  # A published state can be put back for a week: docs/runbook.md.
  versioning {
    enabled = true
  }

  # The files of the current state are below _runs too, so no rule goes by their age: publications
  # remove what is no longer needed, and this rule what they removed.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 7
      matches_prefix             = ["warehouse/"]
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 7
      matches_prefix = ["staging/", "temp/"]
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 1
      matches_prefix             = ["staging/", "temp/"]
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_storage_bucket" "templates" {
  name                        = "${var.project}-templates"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = local.labels

  versioning {
    enabled = true
  }

  # What Cloud Build is sent. Specifications stay: each is a version to go back to.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 7
      matches_prefix = ["source/", "staging/", "temp/"]
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 30
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_bigquery_dataset" "analytics" {
  dataset_id                 = "analytics"
  location                   = var.region
  description                = "Tables of the customer analytics job, replaced together by each run."
  delete_contents_on_destroy = false
  labels                     = local.labels

  depends_on = [google_project_service.needed]
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "estore-analytics"
  location      = var.region
  format        = "DOCKER"
  description   = "Images of the customer analytics job."
  labels        = local.labels

  docker_config {
    immutable_tags = true # an old template goes on working
  }

  depends_on = [google_project_service.needed]
}
