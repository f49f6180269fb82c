"""How frames cross a shuffle."""
