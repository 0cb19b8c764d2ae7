"""Descriptors and scores looked at again: score, verify."""
