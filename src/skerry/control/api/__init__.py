"""The public API, one file for each noun: authenticate, validate, find, write the intent, perhaps wait."""
