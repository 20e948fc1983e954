"""What is needed to run DiffEdit in a cluster, and the programs that make and check these files."""
