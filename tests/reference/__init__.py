"""The generated reference, docs/reference.md: `make docs` writes it, and a test compares it."""
