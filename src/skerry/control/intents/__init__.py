"""Changes of intent: the moves that the API owns, apart from HTTP so that reconcilers and tests ask for them too."""
