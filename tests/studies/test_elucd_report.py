from scripts.studies import elucd_report as study_elucd_report


def test_the_table_has_a_part_for_each_sampler():
    rows = [
        {"method": "elucd", "sampler": "ddpm", "steps": steps, "samples": 9, "frechet": 0.5, "time_ratio": 1.05}
        for steps in (50, 250)
    ]
    table = study_elucd_report.summary_table(rows)
    assert "DDPM, 50 steps, 9 samples:" in table and "DDPM, 250 steps, 9 samples:" in table
    assert table.count("| elucd |") == 2
