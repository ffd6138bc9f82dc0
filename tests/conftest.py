from pathlib import Path

import hypothesis
import pytest
from browsing import CHROMIUM, FLAGS

# The same cases in every run, and no deadline: the machine's load is not what is tested.
hypothesis.settings.register_profile("itermix", deadline=None, derandomize=True)
hypothesis.settings.load_profile("itermix")
# For mutants, of which it is enough to know that there is a failing case: the smallest isn't looked for.
generated = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
hypothesis.settings.register_profile("mutants", hypothesis.settings.get_profile("itermix"), phases=generated)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items):
    """Tests that share a server run in one process, where several share the work (make test)."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        server = parameters.get("host") or parameters.get("server")
        if server:
            item.add_marker(pytest.mark.xdist_group(str(getattr(server, "name", server))))


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests, since playwright can't be started twice."""
    if not Path(CHROMIUM).exists():
        pytest.skip("there is no Chromium")
    with pytest.importorskip("playwright.sync_api").sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
