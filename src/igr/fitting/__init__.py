"""Relaxations for given discrete laws: fits, uniform priors, and the temperature for a distance."""
