import pytest

pytest.register_assert_rewrite("collector.testing")
