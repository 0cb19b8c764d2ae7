"""An index and what asks it: index, search, serve, calibrate."""
