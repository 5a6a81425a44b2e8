"""Writes docs/reference.md."""

from tests.reference.page import FILE, page

if __name__ == "__main__":
    FILE.write_text(page())
    print(f"{FILE} written")
