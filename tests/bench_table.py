"""What a benchmark reports: rows that compare a value with a baseline, and tables to read."""

Row = dict[str, str | float | int]
Table = list[Row]


def row(name: str, unit: str, value: float, baseline: str, against: float, runs: int) -> Row:
    """One line of bench.json."""
    return {
        "name": name,
        "unit": unit,
        "value": round(value, 4),
        "baseline": baseline,
        "baseline_value": round(against, 4),
        "ratio": round(value / against, 3),
        "runs": runs,
    }


def show(title: str, table: Table) -> None:
    """Print a table, its columns those of its first row, in step."""
    lines = [list(table[0]), *([_text(value) for value in line.values()] for line in table)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table[0]))]
    print(f"\n{title}")
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _text(value: str | float | int) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
