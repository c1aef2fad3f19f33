"""The web role: pages for people, an API for programs, checks and metrics for machines."""
