import pytest

from diffusion_guidance.cli.arguments import parse_call, parse_numbers, read_prompts


def test_prompts_are_the_lines_that_are_not_blank(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a red circle \n\n  größer\n", encoding="utf-8")
    assert read_prompts(file) == ["a red circle", "größer"]
    file.write_text(" \n")
    with pytest.raises(ValueError, match=r"prompts\.txt holds no prompt"):
        read_prompts(file)
    file.write_bytes("größer".encode("latin-1"))
    with pytest.raises(ValueError, match=r"prompts\.txt is not text in UTF-8"):
        read_prompts(file)


def test_prompts_end_at_line_feeds_alone_and_a_byte_order_mark_is_not_one_of_their_letters(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa cat\r\none\u2028two\x85three\x0bfour\x0cfive\nlast".encode())
    assert read_prompts(file) == ["a cat", "one\u2028two\x85three\x0bfour\x0cfive", "last"]


def test_values_of_a_call_are_json_or_text():
    texts = ["a=1", "b=0.5", "c=null", "d=[1, 2]", "e=x=y", "f=true", "g="]
    assert parse_call(texts) == {"a": 1, "b": 0.5, "c": None, "d": [1, 2], "e": "x=y", "f": True, "g": ""}
    with pytest.raises(ValueError, match="write NAME=VALUE"):
        parse_call(["a"])


def test_numbers():
    assert parse_numbers("--steps", "5,10", int) == [5, 10]
    assert parse_numbers("--weights", "1.5", float) == [1.5]
    with pytest.raises(ValueError, match=r"cannot read --steps '1\.5'"):
        parse_numbers("--steps", "1.5", int)
