"""Publishing releases to other places."""
