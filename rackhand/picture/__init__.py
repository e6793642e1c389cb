"""The memory bill for the eye: stacked bars in a terminal, in an SVG, in a PNG."""
