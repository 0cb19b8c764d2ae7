"""What is needed before a run: doctor, preset, convert."""
