"""Pixels: reading, listing, the prepared sets, views, their replay, frames of videos."""
