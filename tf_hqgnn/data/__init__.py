"""Interaction logs: reading, validating, filtering, splitting, generating."""
