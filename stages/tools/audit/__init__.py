"""Labels that the teachers doubt."""
