"""The JSON API: all that the pages do, for programs; one module a subject."""
