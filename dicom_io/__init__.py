"""DICOM objects to our types and back; no sockets, no database."""
