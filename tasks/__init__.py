"""What happens on a host, in order. A module is one noun; its functions look, and say what they would change."""
