"""Configuration: what a recipe may say (`schema`) and how one is read (`recipes`)."""
