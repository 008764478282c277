"""How a finished backup becomes exactly one copy, byte by byte, and how that is proven, cancelled or mended (R-5)."""
