"""The rhythm: what starts a night, the table of its stages, the morning after."""
