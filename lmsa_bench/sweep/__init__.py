"""Runs suites on Ray: the command, the driver's side (tuning), and the workers', which is quick to import."""
