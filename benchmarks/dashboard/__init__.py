"""The dashboard of a chaos run."""
