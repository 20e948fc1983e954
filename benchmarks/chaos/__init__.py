"""Whether any job is lost while services and workers fail."""
