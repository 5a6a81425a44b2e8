"""Publishing of releases to other places, atomic at each."""
