"""Whether all of this holds: the watch and its alerts, protection, lag, room left, healed gaps, the audit (R-19)."""
