"""What is said of an error, and how."""

import pytest

from diffusionmtl.errors import in_one_line


@pytest.mark.parametrize(
    ("error", "plain", "typed"),
    [
        (ValueError("a\n  b"), "a b", "ValueError: "),
        (KeyError(), "KeyError", "KeyError"),
        (OSError("long" * 50), "longlonglong", "OSError: lon"),
    ],
)
def test_what_an_error_says_in_one_line(error, plain, typed):
    assert in_one_line(error, 12) == plain
    assert in_one_line(error, 12, typed=True) == typed
