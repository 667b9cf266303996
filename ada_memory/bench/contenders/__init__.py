"""Other people's trainers, each run by a program of its own: nothing here is imported by anything."""
