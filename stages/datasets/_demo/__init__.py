"""What draws the embedded worlds: buildings, facades, scenery, scenes, clips."""
