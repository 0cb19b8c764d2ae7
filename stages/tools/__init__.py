"""For people, outside the graph, in slices; what slices share lies here."""
