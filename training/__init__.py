"""How the bundled model is made: the world that it knows, its five trainings, and the bundle."""
