"""Makes and judges model packages; never imported by the service."""
