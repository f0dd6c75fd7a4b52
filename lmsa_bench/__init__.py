"""A distributed benchmark of layer-wise fine-tuning methods, after the paper L-MSA."""
