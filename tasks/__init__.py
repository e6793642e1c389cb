"""What happens on a host, in order. Each module is one noun; each public function looks, and says what it would change."""
