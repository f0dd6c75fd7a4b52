"""What results mean: selection, ranks, tests, the fidelity of criteria; values, before anything is drawn."""
