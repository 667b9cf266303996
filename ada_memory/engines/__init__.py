"""What runs a model. Nothing outside this room imports torch, peft or mlx."""
