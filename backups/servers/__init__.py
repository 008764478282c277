"""Database servers: how they are reached, how their databases stand, what they remember, and where copies may land."""
