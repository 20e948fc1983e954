"""How fairly owners share a lane."""
