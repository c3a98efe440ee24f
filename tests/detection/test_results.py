"""Files of results: what is written is read again, and a cut at any byte is made good."""

import csv
import json
import os
from pathlib import Path

import pytest

from diffusion_guidance.detection.results import FIELDS, ResultFile, encode_rows, file_stamp, read_rows, settings_path
from diffusion_guidance.detection.scoring import batched


PATHS = ["a.png", 'quote".png', "comma,.png", "line\nbreak.png", "return\r.png", "é.png", "\udcff.png", "last.png"]
SETTINGS = {"identity": {"encoder": "e", "noise": 0.05}}


def row(path: str) -> dict:
    found = {"score": None, "error": "no, it is broken"} if path == "é.png" else {"score": 0.25, "verdict": "real"}
    return dict.fromkeys(FIELDS) | {"path": path, "width": 3} | found


def write(path, paths=PATHS, size=3, settings=SETTINGS) -> tuple[list[str], list[str]]:
    """What was there, and what was done."""
    results, seen, done = ResultFile(path, settings), [], []
    for batch in results.resume(batched(paths, size), lambda row: seen.append(row["path"])):
        results.append([row(path) for path in batch])
        done += batch
    return seen, done


@pytest.fixture(params=["csv", "jsonl"])
def path(request, tmp_path):
    return tmp_path / f"r.{request.param}"


def test_rows_come_back(path):
    assert write(path) == ([], PATHS)
    rows = [row for row, _ in read_rows(path)]
    assert [row["path"] for row in rows] == PATHS
    assert {float(row["score"]) for row in rows if row["score"]} == {0.25}
    assert [row["error"] for row in rows if row["error"]] == ["no, it is broken"]


def test_other_programs_read_them(tmp_path):
    write(tmp_path / "r.csv")
    write(tmp_path / "r.jsonl")
    with open(tmp_path / "r.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert [row["path"] for row in csv.DictReader(file)] == PATHS
    assert [json.loads(line)["path"] for line in (tmp_path / "r.jsonl").read_text().splitlines()] == PATHS
    assert b"\n\xff.png,real," in (tmp_path / "r.csv").read_bytes()  # the name's own bytes


def test_a_spreadsheet_computes_no_cell(tmp_path):
    """S4."""
    names = ["=1+1.png", "+1.png", "-1.png", "@SUM(1).png", "\t=1.png", "\r=1.png", "'=1.png", "a=1.png"]
    assert write(tmp_path / "r.csv", names) == ([], names)
    with open(tmp_path / "r.csv", newline="", encoding="utf-8") as file:
        cells = [row["path"] for row in csv.DictReader(file)]
    assert cells == ["'" + name for name in names[:-1]] + names[-1:]
    assert write(tmp_path / "r.csv", names) == (names, [])
    assert write(tmp_path / "r.jsonl", names) == ([], names) and write(tmp_path / "r.jsonl", names) == (names, [])


def test_a_cut_anywhere_is_made_good(path):
    write(path)
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        os.truncate(path, size)
        seen, done = write(path)
        assert seen + done == PATHS
        assert len(seen) % 3 == 0 or not done  # only whole batches are kept
        assert path.read_bytes() == whole


def test_files_that_come_after_are_added(path):
    write(path, PATHS[:4])
    write(path)
    grown = path.read_bytes()
    path.unlink()
    write(path)
    assert path.read_bytes() == grown


def test_another_list_is_refused(path):
    write(path)
    before = path.read_bytes()
    for paths in (["0.png", *PATHS], PATHS[:5], PATHS[:6]):
        with pytest.raises(ValueError, match="another list of files"):
            write(path, paths)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_changed_files_are_noticed_and_only_their_batches_are_replaced(tmp_path, suffix):
    files = [str(tmp_path / f"{index}.png") for index in range(8)]
    for file in files[:7]:
        Path(file).write_bytes(b"x" if file != files[4] else b"")
    results = ResultFile(tmp_path / f"r.{suffix}", SETTINGS)
    for batch in batched(files, 3):
        results.append([row(file) | file_stamp(file) for file in batch])
    before = results.path.read_bytes()
    assert results.changed(batched(files, 3)) == set()
    with open(results.path, "ab") as file:
        file.write(before[-40:-1])  # a row that was cut off does not disturb
    os.utime(files[1], ns=(1, 1))  # another time
    Path(files[7]).write_bytes(b"")  # was not there
    assert results.changed(batched(files, 3)) == {0, 2}
    with pytest.raises(ValueError, match="another list"):
        results.changed(batched(files[:7], 3))
    again = ([row(file) | file_stamp(file) | {"score": 0.5} for file in files[a:b]] for a, b in ((0, 3), (6, 8)))
    results.replace({0, 2}, again, 3)
    found = [row for row, _ in read_rows(results.path)]
    assert [row["path"] for row in found] == files
    assert [float(row["score"]) for row in found] == [0.5] * 3 + [0.25] * 3 + [0.5] * 2
    assert results.changed(batched(files, 3)) == set()
    assert list(results.resume(batched(files, 3))) == []
    middle = [line for line in before.splitlines() if any(Path(file).name.encode() in line for file in files[3:6])]
    assert all(line in results.path.read_bytes().splitlines() for line in middle)


def test_other_settings_are_refused(path):
    write(path)
    with pytest.raises(ValueError, match="another identity"):
        write(path, settings={"identity": {"encoder": "e", "noise": 0.1}})
    settings_path(path).unlink()
    with pytest.raises(ValueError, match="no results of ours"):
        write(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.csv or \.jsonl"):
        ResultFile(tmp_path / "r.txt", SETTINGS)


def test_nan_is_refused_in_json():
    with pytest.raises(ValueError, match="JSON"):
        encode_rows([row("a.png") | {"score": float("nan")}], ".jsonl")
