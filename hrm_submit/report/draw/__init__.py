"""Grids and charts as inline SVG and as coloured blocks."""
