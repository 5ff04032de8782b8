"""The staff console: pages that read through the database and the API, and act through the API."""
