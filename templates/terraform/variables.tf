variable "project" {
  description = "Id of the project, which exists and has billing."
  type        = string
}

variable "region" {
  description = "Where everything is: buckets, dataset, jobs."
  type        = string
  default     = "us-central1"
}

variable "template" {
  description = "gs:// path of the flex template's specification. By default the pointer that cloudbuild.yaml moves."
  type        = string
  default     = null
}

variable "input" {
  description = "Input files in the input bucket: globs, separated by commas, relative to the bucket."
  type        = string
  default     = "*.csv.gz"
}

variable "schedule" {
  description = "When the job is started, as cron, in UTC. Where nothing is new it computes nothing."
  type        = string
  default     = "0 4 * * *"
}

variable "max_workers" {
  description = "The most workers of a job: one vCPU for 64 MB of input is as many as have something to do."
  type        = number
  default     = 50

  validation {
    condition     = var.max_workers >= 1 && var.max_workers <= 1000
    error_message = "max_workers is 1 to 1000."
  }
}

variable "machine_type" {
  description = "Machines of the workers: 4 GB per vCPU, with AVX2."
  type        = string
  default     = "n2-standard-2"
}

variable "stale_after_hours" {
  description = "Hours without a published run after which the alarm is raised."
  type        = number
  default     = 36

  validation {
    condition     = var.stale_after_hours >= 1
    error_message = "stale_after_hours is at least 1."
  }
}

variable "alarm_email" {
  description = "Who hears of alarms."
  type        = string
}

variable "billing_account" {
  description = "Billing account of the project, for the budget, which then needs roles/billing.costsManager on it. Null: no budget."
  type        = string
  default     = null
}

variable "monthly_budget" {
  description = "Budget of the project for a month, in the currency of the billing account."
  type        = number
  default     = 50
}
