"""What edits cost on a GPU, with models of Stable Diffusion's shapes and random weights."""
