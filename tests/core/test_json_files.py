import json

import pytest

from diffusion_guidance.core.json_files import MAX_JSON_DEPTH, parse_json, read_json, read_settings_file


def test_what_json_reads_is_read(tmp_path):
    value = {"a": [1, 2.5, None, True, "é"], "b": {"c": []}}
    (tmp_path / "x.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "x.json") == value
    for depth in (1, MAX_JSON_DEPTH):
        assert json.dumps(parse_json("[" * depth + "]" * depth)) == "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * (MAX_JSON_DEPTH + 1) + "]" * (MAX_JSON_DEPTH + 1), "nested deeper than"),
        ("[" * 10**6, "nested deeper than|Expecting"),
        ('{"a":' * 10**5 + "1" + "}" * 10**5, "nested deeper than"),
        ("[NaN]", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("[", "Expecting"),
        ("9" * 10_000, "integer string conversion"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "x.json")


def test_files_that_are_not_text_or_too_large(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="codec"):
        read_json(tmp_path / "x.json")
    with pytest.raises(ValueError, match="larger than 1 bytes"):
        read_json(tmp_path / "x.json", max_bytes=1)
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ValueError, match=r"No such file|Is a directory"):
            read_json(path)


@pytest.mark.parametrize(("text", "message"), [("[1]", "is not a file of settings; ask"), ("{", "cannot read .*; ask")])
def test_settings_are_an_object_or_refused_with_what_to_do(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    assert read_settings_file(path, "ask") == {"a": 1}
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings_file(path, "ask")
