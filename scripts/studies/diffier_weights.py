"""How often the weight with the least accumulated error is the best one: claim (b) of DiffIER, from known rows."""

from collections.abc import Mapping, Sequence

from diffusion_guidance.evaluation import markdown_table


LEAST = 1.0  # weights below it are not guidance


def weights_table(meta: Mapping, rows: Sequence[Mapping]) -> str:
    """For each world and number of steps, plain guidance: the weights with the least errors, with the least Frechet
    distance and the highest alignment. In front a sentence with the counts."""
    parts: dict[tuple, list[Mapping]] = {}
    for row in rows:
        if row["method"] == "cfg" and row["weight"] >= LEAST and "error" in row:
            parts.setdefault((row.get("world", "emoji"), row["steps"]), []).append(row)
    lines = []
    for (world, steps), part in sorted(parts.items()):
        line = {"world": world, "steps": steps}
        line |= {f"least {name}": least(part, field) for name, field in ERRORS.items()}
        line |= {"least frechet": least(part, "frechet"), "best alignment": least(part, "alignment", -1)}
        lines.append(line)
    return counts(lines) + markdown_table(lines, list(lines[0]), digits=3)


ERRORS = {"error": "error", "cond. error": "cond_error"}


def least(rows: Sequence[Mapping], field: str, sign: int = 1) -> float | None:
    """The weight at which `field`, times `sign`, is least; None where it is not known."""
    known = [row for row in rows if row.get(field) is not None]
    return min(known, key=lambda row: sign * row[field])["weight"] if known else None


def counts(lines: Sequence[Mapping]) -> str:
    found = []
    for name in ERRORS:
        known = [line for line in lines if line[f"least {name}"] is not None]
        if known:
            agree = sum(line[f"least {name}"] == line["least frechet"] for line in known)
            found.append(f"the weight with the least {name} has the least Frechet distance in {agree} of {len(known)}")
    text = "; ".join(found)
    return f"{text[:1].upper()}{text[1:]} rows.\n\n"
