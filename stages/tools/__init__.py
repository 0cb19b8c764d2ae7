"""For people, outside the graph: score, verify, doctor, preset, bench, compare."""
