import resource

from fuzz import CASES, ran


def pytest_terminal_summary(terminalreporter):
    """How many cases ran, and what they took."""
    if CASES:
        for target, seconds in ran.items():
            terminalreporter.write_line(f"{target:13} {len(seconds):6} cases, the slowest took {max(seconds):.2f} s")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        terminalreporter.write_line(f"{'all':13} {sum(map(len, ran.values())):6} cases, {peak:.0f} MB at most")
