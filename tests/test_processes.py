import pytest


@pytest.mark.xdist_group("one")
def test_the_tests_of_a_group_run_in_one_process(request):
    """Or each process starts the servers and makes the pictures that they share."""
    options = request.config.option
    assert not getattr(options, "loadgroup", False) or request.node.nodeid.endswith("@one")
