"""What is refused is refused with one line."""

from collections.abc import Callable

import pytest

from ctrcl.io import UserError


def refused(call: Callable, *arguments: object, name: object = "", **options: object) -> str:
    """The call fails with one printable line that contains `name`; returns the line."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert str(caught.value).isprintable()
    assert str(name) in str(caught.value)
    return str(caught.value)
