"""The small model that ships inside, the world it speaks of, the recipe that grew it."""
