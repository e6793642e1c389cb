"""The commands for people: a module reads its command line at once and imports everything else when it runs."""
