"""Embed, rank, score: arrays in, arrays out."""
