"""Two updates of one base: angles, overlap, intruders, and what chance alone would share."""
