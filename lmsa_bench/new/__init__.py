"""Skeletons of what a user can add: a method, a task or a suite, each with a test that passes at once."""
