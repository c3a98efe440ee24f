import sys

import pytest

from diffusion_guidance.core.user_code import from_module


def test_the_working_directory_is_searched_last(tmp_path, monkeypatch):
    (tmp_path / "own_code_of_test.py").write_text("value = 3\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('a file of this name is not the module')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "json")
    assert from_module("own_code_of_test", "value", "--x") == 3 and sys.path[-1] == str(tmp_path)
    assert callable(from_module("json", "dumps", "--x"))
    from_module("own_code_of_test", "value", "--x")
    assert sys.path.count(str(tmp_path)) == 1
    del sys.modules["own_code_of_test"]


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="--x cannot import 'missing_module'"):
        from_module("missing_module", "f", "--x")
    with pytest.raises(ValueError, match="--x: json has no 'absent'"):
        from_module("json", "absent", "--x")
