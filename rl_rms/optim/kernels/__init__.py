"""Kernels of the update rule: plain, foreach and fused, behind one interface and chosen in `choice`."""
