"""Rank and score: arrays in, arrays out; one file a protocol in protocols/."""
