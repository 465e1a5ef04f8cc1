"""The Hypothesis profile of all fuzz tests."""

from __future__ import annotations

import tests.support.hypothesis_profile  # noqa: F401 - registers the profile
