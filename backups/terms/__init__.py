"""What must be agreed before anything is copied: who is eligible, the agreement, what settings may be (R-3, R-12)."""
