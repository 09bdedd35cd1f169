"""Interoperability with other detection libraries: models and configs in both directions."""
