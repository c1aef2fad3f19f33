"""Messages, files and frames as no peer should send them; each is drawn by a random generator."""
