"""The paper's mathematics, in its letters."""
