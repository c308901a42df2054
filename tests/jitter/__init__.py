"""Plays tests while each process of them is now and then late: what a test takes for granted about order shows."""
