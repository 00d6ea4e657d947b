"""Reparameterizable distributions on the simplex."""

__version__ = "0.1.0"
