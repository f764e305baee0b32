"""What a command will need of the machine, before it loads a weight: sizes in, bytes by phase out."""
