"""Prediction on many processes and machines, from object stores too. Needs the extra `scale` (Ray Data)."""
