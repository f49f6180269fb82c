# Workers have no public address: they reach Google's services from inside, and only each other besides.

resource "google_compute_network" "workers" {
  name                    = local.application
  auto_create_subnetworks = false

  depends_on = [google_project_service.needed]
}

resource "google_compute_subnetwork" "workers" {
  name                     = local.application
  region                   = var.region
  network                  = google_compute_network.workers.id
  ip_cidr_range            = "10.128.0.0/20"
  private_ip_google_access = true
}

resource "google_compute_firewall" "workers" {
  name        = "${local.application}-workers"
  description = "Dataflow's workers among themselves; nothing else comes in."
  network     = google_compute_network.workers.id
  direction   = "INGRESS"
  source_tags = ["dataflow"]
  target_tags = ["dataflow"]

  allow {
    protocol = "tcp"
    ports    = ["12345", "12346"]
  }
}
