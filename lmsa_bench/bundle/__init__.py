"""A suite in one archive that verifies itself."""
