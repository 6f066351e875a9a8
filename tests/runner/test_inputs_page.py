"""docs/inputs.md equals the list in the code."""

from __future__ import annotations

from tests.support.inputs_page import PAGE, tables, written


def test_the_page_of_inputs_is_as_the_list() -> None:
    page = PAGE.read_text()
    for name, table in tables().items():
        assert f"<!-- {name} -->\n{table}\n<!-- end of {name} -->" in page, (
            "python -m tests.support.inputs_page"
        )
    assert written(page) == page
