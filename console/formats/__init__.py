"""Where Django's own formats of a language are not what is read there."""
