"""The settings as the WebUI's infotext carries them."""

from __future__ import annotations

from typing import Any

from itermix.settings import Settings


def of(settings: Settings) -> dict[str, Any]:
    """{key: value} of what differs from the defaults."""
    return {p.key: getattr(settings, p.name) for p in settings.parameters() if p.name in settings.changed()}
