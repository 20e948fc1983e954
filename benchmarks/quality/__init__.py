"""How good the edits are, on drawn scenes whose true result is known."""
