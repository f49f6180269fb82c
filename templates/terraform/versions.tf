terraform {
  required_version = ">= 1.6"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }

  # The bucket of the state is made by hand, once: README.md.
  backend "gcs" {
    prefix = "customer-analytics"
  }
}

provider "google" {
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true # budgets count against the project's quota, not the caller's
}
