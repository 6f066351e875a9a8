from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from control.views import schemas
from control.views.schemas.base import Request

PROBLEMS_MAX = 300  # each takes about 1.5 kB: 100 sources, each neither a name nor facts
MANY = 50_000
LISTS = ([0] * MANY, [{}] * MANY, [{f"x{number}": 0 for number in range(MANY)}], ["x"] * MANY, [[]] * MANY)


for module in pkgutil.iter_modules(schemas.__path__):
    importlib.import_module(f"{schemas.__name__}.{module.name}")


def requests(kind: type[Request] = Request) -> Iterator[type[Request]]:
    for each in kind.__subclasses__():
        yield each
        yield from requests(each)


def test_no_body_has_so_many_problems_that_to_tell_them_takes_memory():
    tried = 0
    for request in requests():
        bodies = [{f"x{number}": 0 for number in range(MANY)}]
        bodies += [{name: wrong} for name in request.model_fields for wrong in LISTS]
        for body in bodies:
            with pytest.raises(ValidationError) as refused:
                request.model_validate(body)
            assert refused.value.error_count() <= PROBLEMS_MAX, (request, next(iter(body)))
            tried += 1
    assert tried > 100
