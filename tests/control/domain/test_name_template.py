"""Names of outputs after a user's template."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.domain.filenames import stem
from control.domain.name_template import (
    FILE_BYTES_MAX,
    SAME_NAME,
    TEMPLATE_CHARS_MAX,
    NameRefused,
    NameTemplate,
    require_different,
    why_refused,
)
from tests.control.domain.test_filenames import DEVICES, opens_a_device

VALUES = {
    "source": "Spring ad",
    "n": "07",
    "tag": "a1b2c3",
    "seed": "42",
    "width": "1080",
    "height": "1920",
    "date": "2026-11-26",
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0{}"), max_size=60)
MIXED = st.lists(st.one_of(TEXTS, st.sampled_from([f"{{{name}}}" for name in VALUES])), max_size=8)


def named(text: str, **values: str) -> str:
    return NameTemplate(text).file_name({**VALUES, **values})


def refusal(text: str, *, variations: int | None = 2, has_links: bool = False) -> str:
    return why_refused(text, variations=variations, has_links=has_links) or ""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{source}_var{n}_{tag}", "Spring ad_var07_a1b2c3"),
        ("{date} {width}x{height} {seed}-{n}", "2026-11-26 1080x1920 42-07"),
        ("{n}{n}", "0707"),
        ("{source}_{n}.mp4", "Spring ad_07"),
        ("{source}_{n}.MOV", "Spring ad_07"),
        ("v{n}.final", "v07.final"),
        ("  ..{n}. ", "07"),
        ('<{n}>:"|?*', "07"),
        ("a\r\n\u202e{n}\u200b", "a07"),
        ("u\u0308ber {n} 🎬", "über 07 🎬"),
        ("..{n}", "07"),
        ("%2e%2e%2f{n}", "%2e%2e%2f07"),
        ("CON", "CON_"),
        ("nul.{n}", "nul_.07"),
        ("conin$.{n}", "_conin$.07"),
        ("-{n}", "-07"),
    ],
)
def test_a_template_makes_a_name_that_is_safe_everywhere(text, name):
    assert named(text) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *[(text, "not a path") for text in ("../{n}", "a/{n}", "a\\{n}", "{n}\0", "/", "{a/b}")],
        ("{name}_{n}", "there is no placeholder {name}; there are {source} {n} {tag} {seed} {width}"),
        ("{n:03d}", "there is no placeholder {n:03d}"),
        ("{N}", "there is no placeholder {N}"),
        ("{}", "there is no placeholder {}"),
        ("{n.__class__}", "there is no placeholder {n.__class__}"),
        ("{" + "x" * 190 + "}", "there is no placeholder {" + "x" * 30 + "};"),
        *[(text, "braces belong around a placeholder only") for text in ("{n", "n}", "{{n}}", "{n}}")],
        *[(text, "nothing of it may stand in the name") for text in ("...", " ", "???", "\u200b", ".mp4")],
        ("{n}" + "ü" * 80, "names would have more than 149 bytes"),
        ("{seed}" * 9, "names would have more than 149 bytes"),
        *[(text, SAME_NAME) for text in ("{source}", "same", "{source}_{seed}_{date}_{width}")],
    ],
)
def test_a_template_that_cannot_be_is_refused_with_what_to_do(text, words):
    assert words in refusal(text)


@pytest.mark.parametrize("text", ["{source}", "same", "{source}_{n}", "{tag}"])
def test_one_variation_needs_no_number(text):
    assert refusal(text, variations=1) == ""


@pytest.mark.parametrize("name", ["n", "tag"])
def test_a_preset_has_no_number_and_needs_none(name):
    assert refusal("{source}_{width}x{height}_{seed}_{date}", variations=None) == ""
    words = f"{{{name}}} numbers variations, and a preset makes one file of each video: leave it out"
    assert refusal(f"{{source}}{{{name}}}", variations=None) == words


@pytest.mark.parametrize("name", ["width", "height"])
def test_the_size_of_a_link_is_not_known(name):
    assert refusal("{source}_{n}_{date}", has_links=True) == ""
    words = f"{{{name}}} of a link is not known before it is fetched: leave it out"
    assert refusal(f"{{n}}{{{name}}}", has_links=True) == words


def test_the_name_of_a_source_is_shortened_where_the_whole_would_get_too_long():
    source = "ü" * 50
    assert named("{source}_{n}", source=source) == f"{source}_07", "100 bytes of a source have room"
    assert named("{source}" + "x" * 100 + "{n}", source=source) == "ü" * 23 + "x" * 100 + "07"
    assert named("{source}{source}{n}", source=source) == "ü" * 36 * 2 + "07"


def test_a_name_may_have_149_bytes_and_no_more():
    assert len(named("{n}" + "x" * 147)) == 149
    with pytest.raises(NameRefused, match="more than 149 bytes"):
        named("{n}" + "x" * 148)


def test_equal_names_are_found_also_where_case_is_ignored():
    require_different(["ad/a.mp4", "ad/b.mp4", "bd/a.mp4"])
    for names in (["ad/a.mp4", "ad/a.mp4"], ["ad/a.mp4", "ad/A.mp4"], ["ad/straße", "ad/STRASSE"]):
        with pytest.raises(NameRefused, match=r"add \{n\}"):
            require_different(names)


@pytest.mark.parametrize("text", ["{}", "{} ", " {}", "{}.x", "{}:s", "{}\u200b", "{}. .{{n}}"])
def test_no_template_makes_a_device_of_windows(text):
    for device in DEVICES:
        for name in (device, device.lower()):
            assert not opens_a_device(named(text.format(name)) + ".mp4"), name
            assert not opens_a_device(named("{source}", source=stem(f"{name}.mp4")) + ".mp4"), name
            assert not opens_a_device(named(name[:-1] + "{tag}", tag=name[-1]) + ".mp4"), name


@pytest.mark.parametrize("dressed", ["{}", "{}.", "{} .", "{}\u00a0.", "{}:."])
def test_the_longest_name_keeps_its_number_where_it_gets_another_character(dressed):
    for device in DEVICES:
        start = dressed.format(device)
        name = named(start + "x" * (FILE_BYTES_MAX - 3 - len(start.encode())) + "{n}")
        assert name.endswith("xx07"), name
        assert len(name.encode()) <= FILE_BYTES_MAX


@given(MIXED, TEXTS)
def test_any_template_that_is_taken_makes_safe_names_that_differ_by_their_numbers(pieces, source):
    text = "".join(pieces)[:TEMPLATE_CHARS_MAX]
    if why_refused(text, variations=1, has_links=False):
        return
    folder = stem(source)
    names = [named(text, source=folder, n=f"{n:02d}") for n in (1, 9, 10, 99, 100)]
    for name in names:
        assert 1 <= len(name.encode()) <= FILE_BYTES_MAX
        assert not set(name) & set('/\\:*?"<>|\n\r\0')
        assert name == name.strip(" .")
        assert not opens_a_device(name + ".mp4")
    assert len({name.casefold() for name in names}) == (5 if "{n}" in text else 1)
