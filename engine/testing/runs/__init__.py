"""How is a callback tested in many runs?  Cases are drawn, carried out, watched and judged."""
