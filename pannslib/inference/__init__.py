"""Using a model fast: folded networks, graph engines, windows over long recordings, and the tables that come out."""
