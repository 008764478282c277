"""The console's settings with one view more, for `bench/openapi.py`: see `floor_views`."""

from console.settings import *  # noqa: F403

ROOT_URLCONF = "floor_views"
