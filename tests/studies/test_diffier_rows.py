from scripts.studies import diffier_rows as study_diffier_rows


def test_steps_are_the_most_that_the_budget_allows():
    for iterations in (1, 2, 3):
        for reuse in (False, True):
            for budget in (5, 9, 10, 20, 39, 40):
                costs = [n + iterations * (n - 1) - reuse * (n - 1) for n in range(1, 60)]
                expected = 1 + max(k for k, cost in enumerate(costs) if cost <= budget)
                assert study_diffier_rows.steps_of(budget, iterations, reuse) == expected
    assert study_diffier_rows.steps_of(20) == 20


def test_the_table_holds_what_the_claims_need():
    rows = study_diffier_rows.table()
    assert len({tuple(row.items()) for row in rows}) == len(rows)
    for budget in (5, 10, 20):
        for method in ("cfg", "diffier", "diffier, renoise", "diffier, reuse"):
            part = [row for row in rows if row["budget"] == budget and study_diffier_rows.curve(row) == method]
            assert [row["weight"] for row in part] == list(study_diffier_rows.WEIGHTS) and len(part) >= 9
    assert {study_diffier_rows.curve(row) for row in rows if row["budget"] == 5} >= {"raag", "raag+diffier"}
    assert {row["budget"] for row in rows} == {5, 10, 20, 40}
    assert any(study_diffier_rows.curve(row) == "" for row in rows)


def test_what_a_row_is_compared_with():
    rows, row = study_diffier_rows.table(), study_diffier_rows.row
    reduced = row("raag+diffier", 3.0, 10)
    at_equal = dict(study_diffier_rows.same_without(reduced, rows))
    assert at_equal == {"difference": row("raag", 3.0, 10), "difference_at_equal_steps": row("raag", 3.0, 5)}
    assert list(dict(study_diffier_rows.same_without(row("diffier", 3.0, 5), rows))) == ["difference"]  # of 3 steps
    assert study_diffier_rows.same_without(row("raag", 3.0, 10), rows) == []
    renoise = study_diffier_rows.KINDS[", renoise"]
    best = [row("cfg", 2.0, 10), row("raag", 4.0, 10), row("diffier", 1.5, 10, **renoise), row("cfg", 9.0, 5)]
    both = row("raag+diffier", 3.0, 10, **renoise)
    found = dict(study_diffier_rows.others(both, [*best, both]))
    assert found == {"difference_to_cfg": best[0], "difference_to_raag": best[1], "difference_to_diffier": best[2]}
    assert study_diffier_rows.others(best[0], best) == []
