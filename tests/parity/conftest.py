import pytest


@pytest.fixture
def sizes(request):
    """{name: number} that the row of this test tells."""
    return request.function.sizes
