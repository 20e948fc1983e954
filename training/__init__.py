"""How the bundled model is made: the scenes that it knows, its five trainings, and the finished directory."""
