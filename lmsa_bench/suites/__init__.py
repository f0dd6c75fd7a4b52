"""From a YAML file of tune_configs/, or a user's own, to a checked list of trials."""
