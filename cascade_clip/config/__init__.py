"""Configuration: the keys of a recipe (`schema`) and how one is read (`recipes`)."""
