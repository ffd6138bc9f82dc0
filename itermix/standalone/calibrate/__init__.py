"""What is best for a checkpoint: it is measured on the WebUI that has it, shown, and kept as a preset."""
