"""The command that lists, fetches, verifies and prepares the published data sets."""
