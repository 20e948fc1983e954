"""The Lua scripts as they are loaded: whatever they use is defined. Lua itself finds out only when it gets there."""

import re

import pytest

from diffedit.jobs.redis_server import _scripts

GIVEN = set(
    re.findall(
        r"\w+",
        "and break do else elseif end false for function if in local nil not or repeat return then true until while "
        "redis cjson ARGV string table math tonumber tostring type pairs ipairs unpack pcall error setmetatable",
    )
)
"""Words of Lua, and what a server defines."""


@pytest.mark.parametrize("name", sorted(_scripts()))
def test_a_script_defines_what_it_uses(name: str) -> None:
    text = re.sub(r"'[^'\n]*'|^#!.*|--.*", "", _scripts()[name], flags=re.MULTILINE)
    defined = GIVEN | set(re.findall(r"local function (\w+)", text))
    for form in (r"local ([\w, ]+?)(?: =|\n)", r"for ([\w, ]+) (?:in|=)", r"function[ \w.]*\(([\w, .]*)\)"):
        defined |= {name.strip() for names in re.findall(form, text) for name in names.split(",")}
    assert set(re.findall(r"(?<![\w.])([A-Za-z_]\w*)(?!\s*=[^=])\b", text)) <= defined
    members = set(re.findall(r"function this\.(\w+)", text))
    assert set(re.findall(r"(?:this|extras\(\)|queueing\(\))\.(\w+)", text)) <= members


def test_functions_that_a_script_does_not_use_are_left_out() -> None:
    script = _scripts()["acquire_locks"]
    assert "local function is_alive(" in script
    assert not re.search(r"function (retention|send|queueing|extras|end_job)\b", script)
    assert "function this.release_all(" in _scripts()["start_stage"]
    assert "function this.hold_all(" not in _scripts()["start_stage"]
