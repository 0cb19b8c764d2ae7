"""What runs have shown: results, report, compare."""
