import pytest

from diffusion_guidance.cli.arguments import at_least, number, parse_call, parse_ids, parse_numbers, read_prompts


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt=x", "use --prompt or --prompts"),
        ("generator=1", "use --seeds"),
        ("output_type=np", "is set by this command"),
        ("return_dict=false", "is set by this command"),
        ("a=NaN", "NaN is not a number"),
        ("a=" + "[" * 100_000, "nested deeper"),
        ("=1", "write NAME=VALUE"),
    ],
)
def test_arguments_of_the_commands_own_and_values_that_cannot_be_kept_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_call([text])


def test_numbers():
    assert parse_numbers("5,10", at_least(1)) == [5, 10]
    assert parse_numbers("1.5, 2") == [1.5, 2.0]
    with pytest.raises(ValueError, match=r"'1\.5' is not a whole number"):
        parse_numbers("1.5", at_least(1))
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        at_least(1)("0")
    for text in ("nan", "inf", "x", ""):
        with pytest.raises(ValueError, match="number"):
            number(text)


@pytest.mark.parametrize("text, seeds", [("7", [7]), ("0-3", [0, 1, 2, 3]), ("0-1, 5,7-8", [0, 1, 5, 7, 8])])
def test_seeds(text, seeds):
    assert parse_ids(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "a", "3-1", "-3", "1-", "0-3,2", "0-99999999999", "9223372036854775808", "9" * 5000, "\u0663"]
)
def test_bad_seeds_are_refused_at_once(text):
    with pytest.raises(ValueError, match="seeds"):
        parse_ids(text)
