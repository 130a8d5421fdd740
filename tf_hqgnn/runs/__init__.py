"""What a training leaves behind; whoever reads a run asks here."""
