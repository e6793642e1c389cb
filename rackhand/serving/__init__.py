"""Which engine settings one instance gets, and why: presets, the user's own options, and what they mean for memory."""
