"""The published data sets that tasks read: listed, fetched, verified and prepared by a command."""
