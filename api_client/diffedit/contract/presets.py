"""Presets: named sets of parameter defaults. The client resolves them, so a request never holds the name of one."""

from collections.abc import Mapping
from typing import Any

from diffedit.errors import UnknownPreset

GUIDE = "guide"
"""The preset of the DiffEdit guide: the defaults of the fields themselves, whatever the profile has."""
DEFAULT = "default"
"""The preset of a request that names none: the parameter defaults of the profile."""


def preset_params(
    profile: str, preset: str, params: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the parameter defaults of a preset.

    One of the profile's own `presets` lists what differs from the profile's `params`.

    Raises:
        UnknownPreset: there is none of this name; the message lists those of the profile.
    """
    known = {GUIDE: {}, DEFAULT: {**params}, **{name: {**params, **values} for name, values in presets.items()}}
    if preset not in known:
        raise UnknownPreset(profile, preset, known)
    return known[preset]
