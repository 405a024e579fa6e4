"""Tool calls: the forms in which models write them, schemas of functions, and running them."""
