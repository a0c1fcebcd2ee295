"""Kernels of the update rule: plain, foreach, flat and fused, behind one interface and chosen in `choice`."""
