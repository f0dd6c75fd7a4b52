"""Measures what a sweep costs, against the plain loop that one would write instead."""
